// The measured products as Markdown, and the ratios that they are held to.
import { geometricMean } from "../shared/numbers.mjs";
import { sectionOf } from "../shared/section.mjs";
import { digits, measuredWith, reached, table } from "../shared/table.mjs";

/** Each ratio is a geometric mean over the shapes, for many tokens: on a software adapter, and on matrix units. */
const TARGETS = [
  { name: "NF4 forward / best f32", least: 1, over: ["nf4 forward"], under: ["f32 forward", "f32 dX"] },
  { name: "NF4 dX / NF4 forward", least: 0.95, over: ["nf4 dX"], under: ["nf4 forward"] },
  {
    name: "best f32 / plain 8x8 register tile",
    least: 3,
    over: ["f32 forward", "f32 dX"],
    under: ["f32 forward 8x8 tile"],
  },
];
const STEP = "nf4 double-quantised, rank 16";
const MATRIX_TARGETS = [
  { name: "NF4 forward, f16 / f32", least: 2, over: [`${STEP}, f16 forward`], under: [`${STEP} forward`] },
  { name: "NF4 dX, f16 / f32", least: 2, over: [`${STEP}, f16 dX`], under: [`${STEP} dX`] },
  {
    name: "NF4 forward, two f16 / f32",
    least: 1,
    over: [`${STEP}, two f16 forward`],
    under: [`${STEP} forward`],
  },
];
const MANY_TOKENS = 64;

const unique = (values) => [...new Set(values)];

/** The targets' ratios at each number of tokens that was measured, where every shape has both products. */
export function productRatios(rows, hasMatrices = false) {
  const shapes = unique(rows.map((r) => r.shape));
  const best = (tokens, shape, names) =>
    Math.max(
      ...rows
        .filter((r) => r.tokens === tokens && r.shape === shape)
        .filter((r) => names.includes(r.product) || names.includes(`${r.product} ${r.variant}`))
        .map((r) => r.gflops),
    );
  return unique(rows.map((r) => r.tokens)).flatMap((tokens) =>
    (hasMatrices ? MATRIX_TARGETS : TARGETS).flatMap(({ name, least, over, under }) => {
      const each = shapes.map((shape) => best(tokens, shape, over) / best(tokens, shape, under));
      return each.every(Number.isFinite) ? [{ name, tokens, least, ratio: geometricMean(each), each }] : [];
    }),
  );
}

function rates(rows, tokens, shapes) {
  const own = rows.filter((r) => r.tokens === tokens);
  const names = unique(own.map((r) => `${r.product} | ${r.variant}`));
  const lines = names.map((name) => {
    const found = shapes.map((shape) =>
      own.find((r) => r.shape === shape && `${r.product} | ${r.variant}` === name),
    );
    const mean = geometricMean(found.flatMap((r) => r?.gflops ?? []));
    return [name, ...found.map((r) => (r ? digits(r.gflops) : "-")), digits(mean)];
  });
  return [
    `${tokens} ${tokens === 1 ? "token" : "tokens"}, GFLOP/s:`,
    "",
    table(["product", "variant", ...shapes, "geometric mean"], lines),
    "",
  ];
}

export function kernelsText(rows, ratios, { rounds, ...facts }) {
  const shapes = unique(rows.map((r) => r.shape));
  const compared = ratios
    .filter(({ tokens }) => tokens >= MANY_TOKENS)
    .map((r) => [
      r.name,
      r.tokens,
      ...r.each.map((ratio) => ratio.toFixed(2)),
      r.ratio.toFixed(2),
      `>= ${r.least}`,
      reached(r.ratio >= r.least),
    ]);
  return [
    `## ${sectionOf("Products", facts.bits)}`,
    "",
    ...measuredWith(facts, "npm run bench:kernels -- --write"),
    `- in->out; rates are the best of ${rounds} rounds in which all products and variants of a shape take turns`,
    "- the rank 16 rows are those of a DoRA step: low-rank part, scale and bias in the epilogue",
    "",
    ...unique(rows.map((r) => r.tokens)).flatMap((tokens) => rates(rows, tokens, shapes)),
    ...(compared.length > 0
      ? [table(["ratio", "tokens", ...shapes, "geometric mean", "wanted", "reached"], compared)]
      : []),
  ].join("\n");
}
