/** Measuring variants on the adapter at hand: what it leaves behind. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { callDoraBackward } from "../../src/kernels/dora.js";
import { acceptedVariants, Executor } from "../../src/program/executor.js";
import type { Call, Program } from "../../src/program/kernel.js";
import { planMemory } from "../../src/program/planner.js";
import { elementCount, tensor } from "../../src/program/tensor.js";
import { tune } from "../../src/program/tuner.js";
import { bytesOf, given, useGpu } from "../kernels/harness.js";

const context = useGpu();
const cache = process.env["QDORA_CACHE"];
afterEach(() => {
  if (cache === undefined) delete process.env["QDORA_CACHE"];
  else process.env["QDORA_CACHE"] = cache;
});

/** A call with a choice of variants, and an executor for it. */
async function opened() {
  const [N, out] = [8, 64];
  const gradient = tensor("gradient", [out], "f32", "gradient");
  const inputs = {
    dy: given("dy", [N, out]),
    y: given("y", [N, out]),
    scale_bias: given("scale_bias", [out, 2]),
    magnitude: given("magnitude", [out]),
  };
  const { kernel, ...rest } = callDoraBackward("dm", { ...inputs, gradient }, { N, out });
  // All variants are candidates, on a software adapter too.
  const variants = kernel.variants.map((variant) => ({ ...variant, isTimed: () => true }));
  const call: Call = { ...rest, kernel: { ...kernel, variants } };
  const program: Program = { name: "tuned", calls: [call] };
  const folder = mkdtempSync(join(tmpdir(), "qdora-tune-"));
  process.env["QDORA_CACHE"] = folder;
  const executor = await Executor.allocate(context.gpu, planMemory([program], 1 << 20));
  const close = async (): Promise<void> => {
    await executor.release();
    rmSync(folder, { recursive: true });
  };
  return { N, out, gradient, inputs, call, program, executor, close };
}

it("leaves gradients at zero, whatever the measured calls found", async ({ skip }) => {
  const { N, out, gradient, inputs, call, program, executor, close } = await opened();
  try {
    skip(acceptedVariants(call, context.gpu).length < 2, "this adapter has no choice");
    for (const t of [inputs.dy, inputs.y, inputs.magnitude])
      await executor.write(t, bytesOf(new Float32Array(N * out).fill(1).subarray(0, elementCount(t))));
    const table = await tune(executor, [program], "quick");
    expect(table.size).toBe(1);
    expect(new Float32Array(await executor.read(gradient))).toEqual(new Float32Array(out));
  } finally {
    await close();
  }
});

it("asks a variant again that would lose, since something may have disturbed it", async ({ skip }) => {
  const { call, program, executor, close } = await opened();
  try {
    const [first, second] = acceptedVariants(call, context.gpu);
    skip(second === undefined, "this adapter has no choice");
    for (const [times, winner] of [
      [[9, 1], first],
      [[9, 9], second],
    ] as const) {
      let asked = 0;
      vi.spyOn(executor, "measure").mockImplementation(async (_program, _call, variant) =>
        variant === first ? (times[asked++] ?? Number.NaN) : 5,
      );
      const table = await tune(executor, [program], "quick");
      expect([...table.values()]).toEqual([winner?.name]);
      rmSync(join(process.env["QDORA_CACHE"] ?? "", "tune"), { recursive: true });
    }
  } finally {
    await close();
  }
});
