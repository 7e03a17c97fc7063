/** The tiny golden models against transformers and bitsandbytes: see test/fixtures/models/README.md. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FIXTURES } from "../fixture_files.js";
import { useGpu } from "../kernels/harness.js";
import { furthest, golden, TOLERANCE } from "./golden_logits.js";
import { readyMadeNf4 } from "./ready_made.js";
import { wholeLogits } from "./whole_logits.js";

const context = useGpu();

/** Nested codes by the CUDA rule against the stored CPU rule: one block in 550 is a step off; 0.0067 was seen. */
const OTHER_RULE = 2e-2;

const FULL = { quant: "none", doubleQuant: false } as const;
const NF4 = { quant: "nf4", doubleQuant: false } as const;
const NF4_DOUBLE = { quant: "nf4", doubleQuant: true } as const;

describe("logits", () => {
  for (const model of ["llama", "mistral", "qwen2", "qwen3"]) {
    const folder = join(FIXTURES, "models", model);
    for (const [name, how, tolerance] of [
      ["logits", FULL, TOLERANCE],
      ["logits_nf4", NF4, TOLERANCE],
      ["logits_nf4_dq", NF4_DOUBLE, OTHER_RULE],
    ] as const) {
      it(`${model}: ${name} on the GPU`, async () => {
        const { rows, logits } = await golden(folder);
        expect(furthest(await wholeLogits(folder, how, rows, context.gpu), logits(name))).toBeLessThan(
          tolerance,
        );
      });
    }

    it(`${model}: logits_nf4_dq on the GPU, from a checkpoint made by the same rule`, async () => {
      const { rows, logits } = await golden(folder);
      const ready = await readyMadeNf4(folder);
      expect(
        furthest(await wholeLogits(ready, NF4_DOUBLE, rows, context.gpu), logits("logits_nf4_dq")),
      ).toBeLessThan(TOLERANCE);
      await rm(ready, { recursive: true });
    });

    it(`${model}: logits_nf4 by the f64 reference`, async () => {
      const { rows, logits } = await golden(folder);
      expect(furthest(await wholeLogits(folder, NF4, rows), logits("logits_nf4"))).toBeLessThan(TOLERANCE);
    });
  }

  for (const name of ["bnb_checkpoint", "bnb_checkpoint_f32_single"]) {
    it(`${name}: a folder that bitsandbytes wrote`, async () => {
      const folder = join(FIXTURES, "nf4", name);
      const { rows, logits } = await golden(folder);
      expect(
        furthest(await wholeLogits(folder, NF4_DOUBLE, rows, context.gpu), logits("logits")),
      ).toBeLessThan(TOLERANCE);
    });
  }
});
