// `navigator.gpu` for libraries made for browsers: our Dawn, with qdora's choice of adapter.
import { openGpu } from "../../dist/gpu/device.js";
import { restfully } from "../../dist/gpu/wait.js";

/** @returns the adapter's name, and `wait`, which leaves the cores to a software adapter while a promise is pending */
export async function provideGpu() {
  const gpu = await openGpu();
  const { instance, traits } = gpu;
  Object.defineProperty(globalThis, "navigator", {
    configurable: true,
    value: { gpu: instance, userAgent: "node", hardwareConcurrency: 1 },
  });
  return {
    adapter: traits.name,
    destroy: () => gpu.destroy(),
    wait: (promise) => restfully(promise, traits.isSoftware ? 2 : 0.2),
  };
}
