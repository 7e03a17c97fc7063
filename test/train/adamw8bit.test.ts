/** Runs with 8-bit moments beside runs with f32 moments, on the golden models. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FIXTURES } from "../fixture_files.js";
import { useGpu } from "../kernels/harness.js";
import { trainOnGpu, type GpuRun } from "./golden_gpu.js";
import { goldenConfig } from "./golden_run.js";

const context = useGpu();

async function runOf(name: string, optimizer: "adamw" | "adamw8bit", max_steps: number): Promise<GpuRun> {
  const config = await goldenConfig(join(FIXTURES, "training", name));
  return trainOnGpu(
    { ...config, optimizer, max_steps, warmup_steps: 0, lr_scheduler: "constant" },
    context.gpu,
  );
}

/** Largest difference of two adapters, by kind of tensor. */
function differences(a: GpuRun, b: GpuRun): { readonly factors: number; readonly magnitudes: number } {
  let [factors, magnitudes] = [0, 0];
  expect([...b.adapter.keys()]).toEqual([...a.adapter.keys()]);
  for (const [name, values] of a.adapter) {
    const other = b.adapter.get(name)!;
    const worst = Array.from(values).reduce((top, v, i) => Math.max(top, Math.abs(v - other[i]!)), 0);
    if (name.includes("magnitude")) magnitudes = Math.max(magnitudes, worst);
    else factors = Math.max(factors, worst);
  }
  return { factors, magnitudes };
}

describe("adamw8bit", () => {
  for (const name of ["qdora_llama", "qlora_llama"]) {
    it(`takes adamw's first step, and has other factors after the second: ${name}`, async () => {
      const [one, one8] = [await runOf(name, "adamw", 1), await runOf(name, "adamw8bit", 1)];
      // The first step uses moments before they are coded: only the order of f32 operations differs.
      const first = differences(one, one8);
      expect(Math.max(first.factors, first.magnitudes)).toBeLessThan(1e-6);
      const [two, two8] = [await runOf(name, "adamw", 2), await runOf(name, "adamw8bit", 2)];
      const { learning_rate: rate } = two.run.settings;
      const second = differences(two, two8);
      expect(second.factors).toBeGreaterThan(1e-4 * rate);
      expect(second.factors).toBeLessThan(rate);
      // Magnitudes keep f32 moments and saw almost the same gradients.
      expect(second.magnitudes).toBeLessThan(1e-2 * rate);
      expect(two8.ledgerBytes, "planned bytes are the ledger's bytes").toBe(two8.run.plan.totalBytes);
    });
  }

  it("gives the same bits again", async () => {
    const [first, again] = [
      await runOf("qdora_llama", "adamw8bit", 3),
      await runOf("qdora_llama", "adamw8bit", 3),
    ];
    expect(again.steps).toEqual(first.steps);
    expect(again.adapter).toEqual(first.adapter);
  });
});
