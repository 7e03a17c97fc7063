// Our products, as a training step calls them; of the variants that the tuner times, the fastest.
import { openGpu } from "../../dist/gpu/device.js";
import { callProductForward } from "../../dist/kernels/product.js";
import { timedVariants, Executor } from "../../dist/program/executor.js";
import { planMemory } from "../../dist/program/planner.js";
import { tensor } from "../../dist/program/tensor.js";
import { adapterText, ownVersions, vectorBits } from "../shared/machine.mjs";
import { BLOCK, dequantised, packed } from "./problem.mjs";

const READBACK_BYTES = 1 << 20;
const TRIES = 3;

const given = (name, shape, dtype = "f32") => tensor(name, shape, dtype, "cache");
const bytesOf = (a) => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

function weight(product, problem) {
  const { inputs, out } = problem;
  if (product !== "nf4") {
    const values = given("values", [out, inputs]);
    const format = product === "f32 of int4" ? "int4" : "nf4";
    return {
      weight: { format: "f32", out, in: inputs, values },
      content: [[values, dequantised(problem, format)]],
    };
  }
  const codes = given("codes", [out, inputs / 8], "u32");
  const absmax = given("absmax", [(inputs * out) / BLOCK]);
  return {
    weight: { format: "nf4", out, in: inputs, blockSize: BLOCK, doubleQuant: false, codes, absmax },
    content: [
      [codes, packed(problem, true)],
      [absmax, problem.scales],
    ],
  };
}

export async function open() {
  const gpu = await openGpu();
  async function load(call, variant, content) {
    const program = { name: "product", calls: [call] };
    const executor = await Executor.allocate(gpu, planMemory([program], READBACK_BYTES));
    await executor.load([program], () => variant);
    for (const [t, values] of content) await executor.write(t, bytesOf(values));
    const run = async (count) => {
      for (let i = 0; i < count; i++) await executor.run(program);
      await executor.idle();
    };
    await run(1); // compiles
    let ms = Infinity;
    for (let i = 0; i < TRIES; i++) {
      const start = performance.now();
      await run(1);
      ms = Math.min(ms, performance.now() - start);
    }
    return { executor, run, ms, variant: variant.name };
  }
  return {
    adapter: adapterText(gpu.traits),
    bits: vectorBits(gpu.traits),
    versions: ownVersions(),
    async prepare(product, problem) {
      const { tokens: N, inputs, out } = problem;
      const x = given("x", [N, inputs]);
      const y = given("y", [N, out]);
      const made = weight(product, problem);
      const call = callProductForward("bench", { x, weight: made.weight, y }, { N });
      const content = [[x, problem.x], ...made.content];
      let best;
      for (const variant of timedVariants(call, gpu)) {
        const loaded = await load(call, variant, content);
        const isFaster = best === undefined || loaded.ms < best.ms;
        await (isFaster ? best : loaded)?.executor.release();
        if (isFaster) best = loaded;
      }
      return {
        detail: best.variant,
        run: best.run,
        result: async () => new Float32Array(await best.executor.read(y)),
        release: () => best.executor.release(),
      };
    },
    close: () => gpu.destroy(),
  };
}
