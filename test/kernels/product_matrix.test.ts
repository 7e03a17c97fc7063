import { describe, expect, it } from "vitest";
import { compareWithTwin, useGpu } from "./harness.js";
import { backward, CASES, describeCase, forward, type Case } from "./product_calls.js";

const context = useGpu();

/**
 * Both factors are rounded to f16, 2^-12 of each on average. Relative to the largest of many sums of random terms that leaves about
 * 2^-12; 2e-4 was seen.
 */
const TOLERANCE = 5e-4;

const MATRIX_CASES: readonly Case[] = [
  ...CASES.filter((c) => c.N > 4),
  { format: "nf4 nested", N: 130, in: 576, out: 200, rank: 16, scaleBias: true, residual: true },
  { format: "nf4", N: 65, in: 65, out: 129, rank: 33 },
];

describe("matrix products", () => {
  for (const c of MATRIX_CASES) {
    it(`equal their twins: ${describeCase(c)}`, async () => {
      if (context.gpu.traits.matrixShapes.length === 0) return;
      for (const build of [forward, backward]) {
        const { call, data } = build({ ...c, half: true });
        const names = await compareWithTwin(context.gpu, call, {
          tolerance: TOLERANCE,
          data,
          only: ["matrix"],
        });
        expect(names).toEqual(["matrix"]);
      }
    });
  }
});
