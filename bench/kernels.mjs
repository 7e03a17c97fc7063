// GFLOP/s of the products with frozen weights, in every variant, against the best f32 product of the same run.
// usage: scripts/with-gpu.sh node bench/kernels.mjs [--json] [--rounds N] [--tokens N] [--only PATTERN]   (after npm run build)
import { parseArgs } from "node:util";
import { openGpu } from "../dist/gpu/device.js";
import { callProductBackward, callProductForward } from "../dist/kernels/product.js";
import { acceptedVariants, Executor } from "../dist/program/executor.js";
import { planMemory } from "../dist/program/planner.js";
import { tensor, tensorBytes } from "../dist/program/tensor.js";

const { values: flags } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "9" },
    tokens: { type: "string", default: "256" },
    only: { type: "string", default: "" },
  },
});

/** [in, out]: the linears of a 135 M Llama, and a slice of its head. */
const SHAPES = [[576, 1536], [1536, 576], [576, 576], [576, 192]];
const HEAD = [576, 8192];
const RANK = 16;
/** Work of one timed run: long against the polling of the queue. */
const RUN_MS = 60;

const given = (name, shape, dtype = "f32") => tensor(name, shape, dtype, "cache");

function weight(format, inputs, out) {
  if (!format.startsWith("nf4")) return { format, out, in: inputs, values: given("values", [out, inputs], format) };
  const blocks = (inputs * out) / 64;
  const isNested = format === "nf4 dq";
  return {
    format: "nf4", out, in: inputs, blockSize: 64,
    codes: given("codes", [out, inputs / 8], "u32"),
    absmax: given("absmax", [blocks], isNested ? "u8" : "f32"),
    ...(isNested && { nested: given("nested", [257 + Math.ceil(blocks / 256)]) }),
  };
}

function forward(format, N, [inputs, out], adapter) {
  const low = adapter && { p: given("p", [N, RANK]), b: given("b", [out, RANK]), scale_bias: given("scale_bias", [out, 2]) };
  const t = { x: given("x", [N, inputs]), weight: weight(format, inputs, out), y: given("y", [N, out]), ...low };
  return callProductForward("bench", t, { N, rank: adapter ? RANK : 0 });
}

function backward(format, N, [inputs, out], adapter) {
  const low = adapter && { q: given("q", [N, RANK]), a: given("a", [RANK, inputs]) };
  const t = { e: given("e", [N, out]), weight: weight(format, inputs, out), dx: given("dx", [N, inputs]), ...low };
  return callProductBackward("bench", t, { N, rank: adapter ? RANK : 0 });
}

function cases(N) {
  const list = [];
  for (const shape of SHAPES) {
    for (const format of ["f32", "bf16", "nf4", "nf4 dq"]) {
      list.push({ product: `${format} forward`, shape, call: forward(format, N, shape, false) });
      list.push({ product: `${format} dX`, shape, call: backward(format, N, shape, false) });
    }
    list.push({ product: "nf4 dq forward, DoRA", shape, call: forward("nf4 dq", N, shape, true) });
    list.push({ product: "nf4 dq dX, DoRA", shape, call: backward("nf4 dq", N, shape, true) });
  }
  list.push({ product: "bf16 forward", shape: HEAD, call: forward("bf16", N, HEAD, false) });
  list.push({ product: "bf16 dX", shape: HEAD, call: backward("bf16", N, HEAD, false) });
  return list.filter((c) => `${c.product} ${c.shape.join("->")}`.includes(flags.only));
}

/** Finite content: zeros are slow or fast on no adapter, but random bits may be NaN. */
function content(name, t) {
  const bytes = new Uint8Array(tensorBytes(t));
  if (name === "codes" || t.dtype === "u8") for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 197) & 255;
  else if (t.dtype === "bf16") new Uint16Array(bytes.buffer).forEach((_, i, a) => (a[i] = 0x3f00 + ((i * 37) & 127)));
  else new Float32Array(bytes.buffer).forEach((_, i, a) => (a[i] = ((i * 37) % 101) / 101 - 0.5));
  return bytes;
}

/** One variant of one product, ready to run again and again. */
async function prepare(gpu, { product, shape, call }, variant) {
  const flops = call.kernel.cost(call).flops;
  const once = { name: "once", calls: [call] };
  const executor = await Executor.allocate(gpu, planMemory([once], 0));
  await executor.load([once], () => variant);
  for (const [name, t] of Object.entries(call.tensors)) await executor.write(t, content(name, t));
  await executor.run(once);
  await executor.idle();
  let repeats = 1;
  const run = async () => {
    const start = performance.now();
    for (let i = 0; i < repeats; i++) await executor.run(once);
    await executor.idle();
    return (performance.now() - start) / repeats;
  };
  repeats = Math.max(1, Math.ceil(RUN_MS / Math.max(0.05, await run())));
  repeats = Math.max(1, Math.ceil((RUN_MS / (await run())) ));
  return { product, shape, variant: variant.name, flops, run, release: () => executor.release(), times: [] };
}

const median = (a) => a.toSorted((x, y) => x - y)[a.length >> 1];

const N = Number(flags.tokens);
const gpu = await openGpu();
const prepared = [];
for (const c of cases(N)) for (const v of acceptedVariants(c.call, gpu)) prepared.push(await prepare(gpu, c, v));
for (let round = 0; round < Number(flags.rounds); round++) for (const p of prepared) p.times.push(await p.run());
const rows = prepared.map((p) => ({ product: p.product, shape: p.shape.join("->"), variant: p.variant, gflops: p.flops / median(p.times) / 1e6 }));
for (const p of prepared) await p.release();
const bestF32 = Math.max(0, ...rows.filter((r) => r.product.startsWith("f32")).map((r) => r.gflops));
if (flags.json) {
  console.log(JSON.stringify({ adapter: gpu.traits.name, tokens: N, bestF32, rows }));
} else {
  console.log(`${gpu.traits.name}, ${N} tokens, median of ${flags.rounds} interleaved rounds; best f32 product ${bestF32.toFixed(1)} GFLOP/s\n`);
  console.log("| product | in->out | variant | GFLOP/s | of best f32 |\n|---|---|---|---|---|");
  for (const r of rows) {
    const share = bestF32 > 0 ? `${((100 * r.gflops) / bestF32).toFixed(0)} %` : "";
    console.log(`| ${r.product} | ${r.shape} | ${r.variant} | ${r.gflops.toFixed(1)} | ${share} |`);
  }
}
await gpu.destroy();
