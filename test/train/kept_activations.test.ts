/** Activations that forward kept, beside layer inputs that were rounded: magnitudes must not see the rounding. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { FIXTURES } from "../fixture_files.js";
import { useGpu } from "../kernels/harness.js";
import { trainOnGpu } from "./golden_gpu.js";
import { goldenConfig } from "./golden_run.js";

const context = useGpu();

it("gives the last o_proj's magnitudes the same gradient with bf16 layer inputs", async () => {
  const config = await goldenConfig(join(FIXTURES, "training", "dora_llama"));
  const gradients = async (checkpoint_dtype: "f32" | "bf16") => {
    const settings = { ...config, gradient_checkpointing: "selective", checkpoint_dtype } as const;
    return (await trainOnGpu({ ...settings, max_steps: 1 }, context.gpu)).gradients;
  };
  const [exact, rounded] = [await gradients("f32"), await gradients("bf16")];
  // Below the last layer gradients have passed a norm whose input was rounded.
  const name = [...exact.keys()].findLast((n) => n.includes("o_proj.lora_magnitude")) ?? "";
  const [want, got] = [exact.get(name) ?? [], rounded.get(name) ?? []];
  let [difference, size] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    size += want[i]! ** 2;
  }
  expect(size).toBeGreaterThan(0);
  expect(Math.sqrt(difference / size), name).toBeLessThan(1e-5);
});
