import { describe, it } from "vitest";
import { callRmsNormForward } from "../../src/kernels/rms_norm.js";
import { compareWithTwin, given, randomF32, useGpu } from "./harness.js";

const context = useGpu();

describe("rms_norm_forward", () => {
  for (const [rows, D] of [
    [1, 64],
    [7, 65],
    [65, 576],
    [3, 1],
  ] as const) {
    it(`equals its twin at [${rows}, ${D}]`, async () => {
      const call = callRmsNormForward(
        "test",
        { x: given("x", [rows, D]), weight: given("w", [D]), y: given("y", [rows, D]) },
        { rows, D, eps: 1e-5 },
      );
      // f32 sums of D squares against f64: a few ulp.
      await compareWithTwin(context.gpu, call, {
        tolerance: 1e-6,
        data: { x: randomF32(rows * D, 1), weight: randomF32(D, 2) },
      });
    });
  }
});
