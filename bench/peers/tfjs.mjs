// tfjs's WebGPU backend on our Dawn. A product is recorded at once and submitted when a result is asked for.
import { installedVersions, requireFrom } from "./install.mjs";
import { provideGpu } from "./node_gpu.mjs";
import { dequantised, transposed } from "./problem.mjs";

export async function open(packages) {
  const { adapter, wait, destroy } = await provideGpu();
  const require = requireFrom(packages);
  const tf = require("@tensorflow/tfjs-core");
  const { WebGPUBackend } = require("@tensorflow/tfjs-backend-webgpu");
  if (!((await wait(tf.setBackend("webgpu"))) && tf.backend() instanceof WebGPUBackend))
    throw new Error("its backend webgpu does not start");
  const one = tf.tensor([1], [1, 1]);
  /** A small result that is read comes after all that were recorded before it. */
  const waitForAll = async () => {
    const y = tf.matMul(one, one);
    await wait(y.data());
    y.dispose();
  };
  return {
    adapter,
    versions: installedVersions("tfjs", packages),
    async prepare(_product, problem) {
      const x = tf.tensor(problem.x, [problem.tokens, problem.inputs]);
      const w = tf.tensor(transposed(problem, dequantised(problem, "nf4")), [problem.inputs, problem.out]);
      return {
        async result() {
          const y = tf.matMul(x, w);
          const values = await wait(y.data());
          y.dispose();
          return values;
        },
        async run(count) {
          for (let i = 0; i < count; i++) tf.matMul(x, w).dispose();
          await waitForAll();
        },
        release: () => tf.dispose([x, w]),
      };
    },
    close: destroy,
  };
}
