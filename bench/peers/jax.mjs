// jax-js's WebGPU backend on our Dawn, its product under `jit`.
import { pathToFileURL } from "node:url";
import { installedVersions, requireFrom } from "./install.mjs";
import { provideGpu } from "./node_gpu.mjs";
import { dequantised, transposed } from "./problem.mjs";

export async function open(packages) {
  const { adapter, wait, destroy } = await provideGpu();
  // The ES module beside what `require` finds: the CommonJS build is another instance.
  const main = requireFrom(packages)
    .resolve("@jax-js/jax")
    .replace(/\.cjs$/, ".js");
  const jax = await import(pathToFileURL(main).href);
  if (!(await wait(jax.init("webgpu"))).includes("webgpu"))
    throw new Error("its backend webgpu does not start");
  jax.defaultDevice("webgpu");
  const { numpy } = jax;
  const product = jax.jit((a, b) => numpy.matmul(a, b));
  return {
    adapter,
    versions: installedVersions("jax", packages),
    async prepare(_product, problem) {
      const matrix = (values, shape) => numpy.array(values).reshape(shape);
      const x = matrix(problem.x, [problem.tokens, problem.inputs]);
      const w = matrix(transposed(problem, dequantised(problem, "nf4")), [problem.inputs, problem.out]);
      return {
        result: () => wait(product(x.ref, w.ref).data()),
        async run(count) {
          // An array that is disposed of before it is waited for may never be computed.
          const results = Array.from({ length: count }, () => product(x.ref, w.ref));
          for (const y of results)
            if (y.device !== "webgpu") throw new Error(`its product ran on ${y.device}`);
          await wait(jax.blockUntilReady(results));
          for (const y of results) y.dispose();
        },
        release() {
          x.dispose();
          w.dispose();
        },
      };
    },
    close: destroy,
  };
}
