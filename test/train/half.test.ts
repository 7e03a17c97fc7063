/** `compute_dtype: f16`: which calls may round their inputs to f16. Their numbers in whole runs: forced_variants.test.ts. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { option } from "../../src/program/kernel.js";
import { prepareRun } from "../../src/train/prepare.js";
import { FIXTURES } from "../fixture_files.js";
import { goldenConfig } from "./golden_run.js";

describe("compute_dtype f16", () => {
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
