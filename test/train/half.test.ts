/** `compute_dtype: f16`: whole runs whose products with frozen weights and attention go through f16 matrices, against PEFT's f32 numbers. */
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { option } from "../../src/program/kernel.js";
import { prepareRun } from "../../src/train/prepare.js";
import { FIXTURES } from "../fixture_files.js";
import { useGpu } from "../kernels/harness.js";
import { trainOnGpu } from "./golden_gpu.js";
import { goldenConfig, goldenSteps } from "./golden_run.js";

const context = useGpu();
const forced = process.env["QDORA_VARIANT"];

afterEach(() => {
  if (forced === undefined) delete process.env["QDORA_VARIANT"];
  else process.env["QDORA_VARIANT"] = forced;
});

/**
 * f16 keeps 11 bits, 2^-12 of each input on average, and activations wait in bf16 besides. Losses differed by up to 3e-4 of
 * themselves and norms by 1e-3.
 */
const LOSS = 1e-3;
const GRADIENT_NORM = 1e-2;

describe("compute_dtype f16", () => {
  for (const name of ["qdora_llama", "dora_llama", "qdora_qwen2"]) {
    it(`${name}: losses and gradient norms stay close to PEFT's`, async ({ skip }) => {
      skip(context.gpu.traits.matrixShapes.length === 0, "this adapter has no matrices");
      process.env["QDORA_VARIANT"] = "matrix";
      const folder = join(FIXTURES, "training", name);
      const config = { ...(await goldenConfig(folder)), compute_dtype: "f16" as const };
      const { steps } = await trainOnGpu(config, context.gpu);
      for (const [i, want] of goldenSteps(folder).entries()) {
        const got = steps[i]!;
        expect(Math.abs(got.loss / want.loss - 1), `loss of step ${i + 1}`).toBeLessThan(LOSS);
        expect(Math.abs(got.grad_norm / want.grad_norm - 1), `norm of step ${i + 1}`).toBeLessThan(
          GRADIENT_NORM,
        );
      }
    });
  }

  it("lets products with frozen weights round, the head's too, and attention, and nothing under f32 and auto", async () => {
    const config = await goldenConfig(join(FIXTURES, "training", "qdora_llama"));
    for (const compute_dtype of ["f32", "auto", "f16"] as const) {
      const { programs } = await prepareRun({ ...config, compute_dtype });
      const calls = programs.flatMap((p) => p.calls);
      const half = calls.filter((call) => option(call, "HALF") === 1);
      // Row norms are products with W too, but of the adapter's own numbers: they stay f32.
      const products = calls.filter(
        (c) => /forward$|dX$|^head|again$/.test(c.label) && /product/.test(c.kernel.name),
      );
      const attention = calls.filter((c) => /^attention_(forward|backward)/.test(c.kernel.name));
      expect(attention.length).toBeGreaterThan(0);
      expect(half, compute_dtype).toEqual(
        compute_dtype === "f16" ? calls.filter((c) => products.includes(c) || attention.includes(c)) : [],
      );
    }
  });
});
