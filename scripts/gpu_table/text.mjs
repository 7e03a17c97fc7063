// The measured rows as Markdown: one line per device, then one table per device with a line per kernel.
import { table } from "../../bench/shared/table.mjs";
import { cyclesPerMultiplyAdd } from "./stats.mjs";

function groupBy(rows, keyOf) {
  const groups = new Map();
  for (const row of rows) groups.set(keyOf(row), [...(groups.get(keyOf(row)) ?? []), row]);
  return groups;
}

const isProduct = (row) => row.kernel.includes("_product_");
const onMatrices = (row) => row.variant.endsWith("matrix") && row.loop?.matrix > 0;
const most = (values) => (values.length > 0 ? Math.max(...values) : undefined);
const least = (values) => (values.length > 0 ? Math.min(...values) : undefined);
const number = (v, digits = 0) =>
  v === undefined
    ? "-"
    : v.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const multiplyAddShare = ({ loop }) => loop.multiplyAdds / loop.vector;
export const othersPerMatrix = ({ loop }) => (loop.vector - loop.matrix) / loop.matrix;

/** Of each product that has both: cycles per multiply-add of the plain tile and of the matrix variant. */
export function speedups({ vendor, rows }) {
  const byCall = groupBy(rows.filter(isProduct), (r) => `${r.kernel} ${JSON.stringify(r.options)}`);
  return [...byCall.values()].flatMap((same) => {
    const cost = (name) =>
      same.filter((r) => r.variant === name && r.loop).map((r) => cyclesPerMultiplyAdd(r, vendor));
    const [plain, matrix] = [cost("tile"), cost("matrix")];
    return plain.length > 0 && matrix.length > 0
      ? [{ kernel: same[0].kernel, plain: least(plain), matrix: most(matrix) }]
      : [];
  });
}

/** The device as the other compile has it; nothing where there is one compile. */
const otherOf = (r) =>
  r.rows[0]?.other ? { ...r, rows: r.rows.map(({ other, ...row }) => ({ ...row, ...other })) } : undefined;

/** What a function says of a device, and in parentheses what it says of the other compile. */
function ofBoth(r, say) {
  const other = otherOf(r);
  return other ? `${say(r)} (${say(other)})` : say(r);
}

function summary(results) {
  const head = [
    "GPU",
    "pipelines",
    "that spill",
    "products: least warps per SM, waves per SIMD",
    "plain tiles: multiply-adds of vector instructions, least",
    "matrices",
    "other vector instructions per matrix instruction: products, most",
    "attention, most",
    "cycles per multiply-add, plain -> matrix (the worst ratio)",
    "ratio",
  ];
  const lines = results.map((r) => {
    const products = r.rows.filter(isProduct);
    const plain = products.filter((row) => row.variant === "tile" && row.loop);
    const occupancy = least(products.flatMap((row) => row.occupancy ?? []));
    const d = products.find(onMatrices)?.defines;
    const others = (isWanted) =>
      ofBoth(r, ({ rows }) =>
        number(most(rows.filter((row) => onMatrices(row) && isWanted(row)).map(othersPerMatrix)), 1),
      );
    const worst = (say) =>
      ofBoth(r, (each) => {
        const [found] = speedups(each).toSorted((x, y) => x.plain / x.matrix - y.plain / y.matrix);
        return found ? say(found) : "-";
      });
    return [
      r.title,
      r.rows.length,
      r.rows.filter((row) => row.spills > 0).length,
      number(occupancy),
      `${number(100 * least(plain.map(multiplyAddShare)))} %`,
      d ? `${d.MATRIX_M}x${d.MATRIX_N}x${d.MATRIX_K}` : "none",
      others(isProduct),
      others((row) => !isProduct(row)),
      worst((found) => `${number(found.plain, 2)} -> ${number(found.matrix, 2)}`),
      worst((found) => `${number(found.plain / found.matrix, 1)}x`),
    ];
  });
  return [table(head, lines), ""];
}

/** What every device is held to. */
const LIMITS = {
  warps: { nvidia: 8, amd: 4 },
  multiplyAdds: 0.75,
  others: { nvidia: 16, intel: 8, amd: 8 },
  ratio: 2,
};

/** Every limit that a device does not hold. */
function broken(results) {
  const texts = results.flatMap((r) => {
    const products = r.rows.filter(isProduct);
    const plain = products.filter((row) => row.variant === "tile" && row.loop).map(multiplyAddShare);
    const judged = r.rows.filter((row) => isProduct(row) || onMatrices(row));
    const others = (kept) => most(r.rows.filter((row) => onMatrices(row) && kept(row)).map(othersPerMatrix));
    const [inProducts, inAttention] = [others(isProduct), others((row) => !isProduct(row))];
    const occupancy = judged.flatMap((row) => row.occupancy ?? []);
    const ratios = speedups(r).map((each) => each.plain / each.matrix);
    const spilling = r.rows.filter((row) => row.spills > 0).length;
    return [
      spilling > 0 && `${spilling} pipelines spill`,
      least(occupancy) < LIMITS.warps[r.vendor] && `occupancy ${least(occupancy)}`,
      least(plain) < LIMITS.multiplyAdds && `${number(100 * least(plain))} % multiply-adds`,
      inProducts > LIMITS.others[r.vendor] &&
        `${number(inProducts, 1)} others per matrix instruction of products`,
      inAttention > LIMITS.others[r.vendor] &&
        `${number(inAttention, 1)} others per matrix instruction of attention`,
      least(ratios) < LIMITS.ratio && `${number(least(ratios), 2)}x over the plain tile`,
    ].flatMap((text) => (text ? [`${r.title}: ${text}`] : []));
  });
  return texts.length > 0 ? texts.join("; ") : "none";
}

function limits(results) {
  const others = results.flatMap((r) => otherOf(r) ?? []);
  return [
    "Limits: no spills; products, and attention on matrices, at least 8 warps per SM (NVIDIA), 4 waves per SIMD (AMD); plain tiles of",
    "products at least 75 % multiply-adds; at most 8 others per matrix instruction (16 on NVIDIA); matrices at least 2x over the plain tile.",
    `Not held: ${broken(results)}.`,
    ...(others.length > 0 ? [`Not held by the other kind of Intel's code: ${broken(others)}.`] : []),
    "",
  ];
}

function loopText(rows) {
  const loops = rows.filter((r) => r.loop);
  const matrix = loops.filter((r) => r.loop.matrix > 0);
  if (matrix.length > 0) return `${number(most(matrix.map(othersPerMatrix)), 1)} others per matrix`;
  return loops.length > 0 ? `${number(100 * least(loops.map(multiplyAddShare)))} % multiply-adds` : "-";
}

function device(r) {
  const kernels = groupBy(r.rows, (row) => `${row.kernel}/${row.variant}`);
  const occupancy = { nvidia: "warps per SM", amd: "waves per SIMD", intel: "" }[r.vendor];
  const head = [
    "kernel / variant",
    "shapes",
    "subgroup",
    "registers",
    "spills",
    occupancy,
    "instructions",
    "cycles",
  ];
  const lines = [...kernels].map(([name, rows]) => [
    name.replace("/", " / "),
    rows.length,
    [...new Set(rows.map((row) => row.subgroup))].join(", "),
    number(most(rows.map((row) => row.registers))),
    number(most(rows.map((row) => row.spills))),
    number(least(rows.flatMap((row) => row.occupancy ?? []))),
    number(most(rows.map((row) => row.instructions))),
    number(most(rows.map((row) => row.cycles))),
    loopText(rows),
  ]);
  return [`### ${r.title}`, "", table([...head, "innermost loop that multiplies"], lines), ""];
}

/** @param facts machine, versions and command, each a line */
export function resultsText(results, facts) {
  return [
    "## Compiled for GPUs that are not here",
    "",
    ...facts.map((fact) => `- ${fact}`),
    "",
    "Nothing here was timed: these are the drivers' own compilers and their statistics, for the chosen variant (`tune: off`) of every",
    "kernel that training (every compute_dtype), evaluation and generation call, with the shapes of Mistral 7B (1,024 tokens) and SmolLM2 135M",
    "(256 tokens), NF4 and bf16 bases, an int8 head, rank 16.",
    "",
    "- Registers: per lane on NVIDIA and AMD; on Intel the most that are live, in units of 32 bytes (a thread has 128, on Xe2 256).",
    "- Spills: stores and loads of registers in memory, static. Occupancy: from registers and workgroup memory.",
    "- Instructions by class are those of the innermost loop that multiplies, by itself: decoding and staging of tiles are outside.",
    "- Cycles: the compiler's estimate for one subgroup, without caches, other subgroups or bank conflicts. It guesses rounds of loops",
    "  (NVIDIA 10 and 38 for a loop in a loop, Intel 10 and 100, AMD 8 and 32), and cycles per multiply-add divide by the multiply-adds of",
    "  the same guess, per lane. So a tile's staging weighs less than it does in truth, for both kinds of tiles; attention's loop over a",
    "  head, which is one round on Intel, weighs ten times as much.",
    "- NVIDIA: Mesa's NVK, not NVIDIA's compiler, and without Dawn's bounds checks, which NVK makes of single elements.",
    "- Intel's compiler makes one of two kinds of code: Mesa's driver reads heap memory that it never wrote (with MALLOC_PERTURB_=255, which",
    "  zeroes memory, each of ten processes makes the one, with MALLOC_PERTURB_=1 each the other; by chance about one of three makes the",
    "  other). Then it merges neighbouring loads of workgroup memory only where it knows that they are aligned, which it never does of a",
    "  column of a right matrix, a lane's number being part of its address: eight messages instead of two, whatever the shader says. The",
    "  tables state what zeroed memory gives, but the most registers and spills of both kinds; the summary has the other kind in parentheses.",
    "- A left matrix is eight messages with an address of their own on the A770 (16 instructions), a right one two (4) or eight (16): where",
    "  a left matrix gives R results, 4 + 16 / R others per matrix instruction at the least. Products have six results, which 128 registers",
    "  hold with all else. Attention has one, beside sums that stay. Forward with heads of 64 holds a workgroup's own rows as left matrices in",
    "  registers, so 4 is its floor (16 in the other kind of code); with heads of 128, and backward with one of two kinds of rows, they spill",
    "  (52 to 356 stores and loads), and 20 (32) is the floor.",
    "- What else was tried for attention on the A770: two results of a left matrix, where half of the subgroups make no scores: 14.8 others",
    "  without spills, but a tile of keys takes 17 % longer by the estimate; four or eight: 97 to 406 stores and loads. Own rows loaded once",
    "  per tile and scores by blocks of columns, two for each of half of the subgroups: 13.3 and 15 % longer. Stages of a tile take more of its",
    "  time than these products.",
    "- Attention on the A770 in cycles of a lane per multiply-add, of one tile with the rounds that its loops have there, plain -> matrix,",
    "  heads of 128 and 64: forward 20.8 -> 10.2 and 17.2 -> 9.8, for q 28.0 -> 9.3 and 18.0 -> 10.7, for k and v 25.6 -> 14.4 and",
    "  25.7 -> 14.2 (its scores, which are made twice, counted once). So matrices are chosen there: 1.7x to 3.0x.",
    "- On Xe2 a left matrix is four messages, a right one two or eight, and addresses are part of messages where the compiler sees a bound of",
    "  the index. Attention holds the rows that a workgroup owns in registers as left matrices with heads of 64, and loads them again with",
    "  heads of 128: 6 or 12 at the least.",
    "- Products of f16's forward pass split inputs into sums of two f16 where that is chosen (NVIDIA): three matrix instructions (two where",
    "  f16 holds W) count as one multiply-add then. Elsewhere they are the plain tile's.",
    "- In the tables a line is the worst over the shapes of a kernel.",
    "",
    ...summary(results),
    ...limits(results),
    ...results.flatMap(device),
  ].join("\n");
}
