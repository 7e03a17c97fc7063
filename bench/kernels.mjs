// GFLOP/s of the products with frozen weights in every variant, their share of the best f32 product of the same shape, and the ratios
// that the products are held to.
// usage: npm run bench:kernels -- [--rounds N] [--tokens N,N] [--shapes IN-OUT,IN-OUT] [--only PATTERN] [--json | --write]
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openGpu } from "../dist/gpu/device.js";
import { callProductBackward, callProductForward } from "../dist/kernels/product.js";
import { hasHalfMatrices } from "../dist/kernels/product_matrix.js";
import { tileVariant } from "../dist/kernels/product_tile.js";
import { doubleQuantLayout } from "../dist/kernels/weight.js";
import { timedVariants, Executor } from "../dist/program/executor.js";
import { planMemory } from "../dist/program/planner.js";
import { tensor, tensorBytes } from "../dist/program/tensor.js";
import { kernelsText, productRatios } from "./kernels/text.mjs";
import { adapterText, machineText, ownVersions, vectorBits } from "./shared/machine.mjs";
import { sectionOf, writeSection } from "./shared/section.mjs";

const { values: flags } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    tokens: { type: "string", default: "512,1" },
    only: { type: "string", default: "" },
    shapes: { type: "string", default: "576-1536,1536-576,2048-2048,2048-5632" },
    write: { type: "boolean", default: false },
  },
});

/** [in, out]: the feed-forward of a 135 M Llama, then q_proj and gate_proj of a 1.1 B one. */
const SHAPES = flags.shapes.split(",").map((shape) => shape.split("-").map(Number));
if (!SHAPES.every((shape) => shape.length === 2 && shape.every((n) => Number.isInteger(n / 64) && n > 0)))
  throw new Error(`--shapes: ${flags.shapes} has other than IN-OUT of whole blocks of 64`);
const FORMATS = ["f32", "bf16", "int8", "nf4", "nf4 double-quantised"];
const RANK = 16;
/** Fewer tokens are generation, which has no backward. */
const FEWEST_BACKWARD_TOKENS = 8;
/** Work of one timed run: long against the polling of the queue. */
const RUN_MS = 50;

/** What the f32 products are compared with: 8 x 8 sums in registers on every adapter. */
const PLAIN_TILE = {
  ...tileVariant,
  name: "8x8 tile",
  defines: (call, traits) => ({ ...tileVariant.defines(call, traits), ROW_QUADS: 2 }),
};

/** All variants that the adapter takes, and the plain tile for f32. */
function variants({ product, call }, gpu) {
  const accepted = timedVariants(call, gpu);
  return product === "f32 forward" && call.sizes.N >= FEWEST_BACKWARD_TOKENS
    ? [...accepted, PLAIN_TILE]
    : accepted;
}

const given = (name, shape, dtype = "f32") => tensor(name, shape, dtype, "cache");

function weight(format, inputs, out) {
  if (format === "int8") {
    const codes = given("codes", [out, Math.ceil(inputs / 4)], "u32");
    return { format, out, in: inputs, codes, absmax: given("absmax", [out]) };
  }
  if (!format.startsWith("nf4"))
    return { format, out, in: inputs, values: given("values", [out, inputs], format) };
  const blocks = (inputs * out) / 64;
  const doubleQuant = format !== "nf4";
  return {
    format: "nf4",
    out,
    in: inputs,
    blockSize: 64,
    doubleQuant,
    codes: given("codes", [out, inputs / 8], "u32"),
    absmax: doubleQuant
      ? given("absmax", [doubleQuantLayout(blocks).words], "u32")
      : given("absmax", [blocks]),
  };
}

function forward(format, N, [inputs, out], rank, half) {
  const low = rank && {
    p: given("p", [N, rank]),
    b: given("b", [out, rank]),
    scale_bias: given("scale_bias", [out, 2]),
  };
  const t = {
    x: given("x", [N, inputs]),
    weight: weight(format, inputs, out),
    y: given("y", [N, out]),
    ...low,
  };
  return callProductForward("bench", t, { N, rank, half });
}

function backward(format, N, [inputs, out], rank, half) {
  const low = rank && { q: given("q", [N, rank]), a: given("a", [rank, inputs]) };
  const t = {
    dy: given("dy", [N, out]),
    weight: weight(format, inputs, out),
    dx: given("dx", [N, inputs]),
    ...low,
  };
  return callProductBackward("bench", t, { N, rank, half });
}

/** The products of one shape; those with a rank are those of a DoRA step, on a real GPU with matrix units also in f16. */
function products(N, shape, hasMatrices) {
  const step = { format: "nf4 double-quantised", rank: RANK };
  const kinds = [
    ...FORMATS.map((format) => ({ format, rank: 0 })),
    step,
    ...(hasMatrices
      ? [
          { ...step, half: true },
          { ...step, half: "split" },
        ]
      : []),
  ];
  return kinds.flatMap(({ format, rank, half = false }) => {
    const name = [format, rank > 0 && `rank ${rank}`, half && (half === "split" ? "two f16" : "f16")]
      .filter(Boolean)
      .join(", ");
    const both = [{ product: `${name} forward`, format, call: forward(format, N, shape, rank, half) }];
    if (N >= FEWEST_BACKWARD_TOKENS && half !== "split")
      both.push({ product: `${name} dX`, format, call: backward(format, N, shape, rank, half) });
    return both;
  });
}

/** Finite content: random bits may be NaN. */
function content(name, t) {
  const bytes = new Uint8Array(Math.ceil(tensorBytes(t) / 4) * 4);
  if (name === "codes" || t.dtype === "u8") for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 197) & 255;
  else if (t.dtype === "bf16")
    new Uint16Array(bytes.buffer).forEach((_, i, a) => (a[i] = 0x3f00 + ((i * 37) & 127)));
  else new Float32Array(bytes.buffer).forEach((_, i, a) => (a[i] = ((i * 37) % 101) / 101 - 0.5));
  return bytes;
}

/** One variant of one product, compiled and ready to be timed again and again. */
async function prepare(gpu, { product, format, call }, variant) {
  const once = { name: "once", calls: [call] };
  const executor = await Executor.allocate(gpu, planMemory([once], 0));
  await executor.load([once], () => variant);
  for (const [name, t] of Object.entries(call.tensors)) await executor.write(t, content(name, t));
  const time = async (repeats) => {
    const start = performance.now();
    for (let i = 0; i < repeats; i++) await executor.run(once);
    await executor.idle();
    return (performance.now() - start) / repeats;
  };
  await time(1); // compiles
  const repeats = Math.max(1, Math.ceil(RUN_MS / (await time(1))));
  const { flops, bytes } = call.kernel.cost(call);
  return {
    product,
    format,
    variant: variant.name,
    flops,
    bytes,
    ms: Infinity,
    time: () => time(repeats),
    release: () => executor.release(),
  };
}

/** Best of interleaved rounds, so that a busy moment hits all of them alike. */
async function measure(gpu, N, shape) {
  const prepared = [];
  for (const p of products(N, shape, hasMatrices).filter((each) =>
    `${each.product} ${shape.join("->")}`.includes(flags.only),
  )) {
    for (const variant of variants(p, gpu)) prepared.push(await prepare(gpu, p, variant));
  }
  for (let round = 0; round < Number(flags.rounds); round++)
    for (const p of prepared) p.ms = Math.min(p.ms, await p.time());
  for (const p of prepared) await p.release();
  const gflops = (p) => p.flops / p.ms / 1e6;
  const bestF32 = Math.max(0, ...prepared.filter((p) => p.format === "f32").map(gflops));
  return prepared.map((p) => ({
    tokens: N,
    shape: shape.join("->"),
    product: p.product,
    variant: p.variant,
    gflops: gflops(p),
    gigabytesPerSecond: p.bytes / p.ms / 1e6,
    shareOfBestF32: bestF32 > 0 ? gflops(p) / bestF32 : null,
  }));
}

const gpu = await openGpu();
const hasMatrices = !gpu.traits.isSoftware && hasHalfMatrices(gpu.traits);
const adapter = adapterText(gpu.traits);
const bits = vectorBits(gpu.traits);
const rows = [];
for (const N of flags.tokens.split(",").map(Number)) {
  for (const shape of SHAPES) {
    console.error(`${N} tokens, ${shape.join("->")}`);
    rows.push(...(await measure(gpu, N, shape)));
  }
}
const rounds = Number(flags.rounds);
const ratios = productRatios(rows, hasMatrices);
const text = kernelsText(rows, ratios, {
  machine: machineText(),
  adapter,
  bits,
  versions: ownVersions(),
  rounds,
});
if (flags.json) console.log(JSON.stringify({ adapter, rounds, rows, ratios }));
else console.log(text);
if (flags.write)
  writeSection(
    fileURLToPath(new URL(gpu.traits.isSoftware ? "RESULTS.md" : "GPUS.md", import.meta.url)),
    gpu.traits.isSoftware ? sectionOf("products", bits) : `products, ${adapter}`,
    text,
  );
await gpu.destroy();
