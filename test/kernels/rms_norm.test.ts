import { describe, it } from "vitest";
import { callRmsNormForward } from "../../src/kernels/rms_norm.js";
import { compareWithTwin, given, packed, randomF32, useGpu } from "./harness.js";

const context = useGpu();

describe("rms_norm_forward", () => {
  for (const [rows, D, dtype] of [
    [1, 64, "f32"],
    [7, 65, "f32"],
    [65, 576, "f32"],
    [3, 1, "f32"],
    [7, 66, "bf16"],
    [65, 300, "bf16"],
    [65, 300, "bfp16"],
    [1, 4, "bfp16"],
  ] as const) {
    it(`equals its twin at [${rows}, ${D}] ${dtype}`, async () => {
      const call = callRmsNormForward(
        "test",
        { x: given("x", [rows, D], dtype), weight: given("w", [D]), y: given("y", [rows, D]) },
        { rows, D, eps: 1e-5 },
      );
      // f32 sums of D squares against f64: a few ulp.
      await compareWithTwin(context.gpu, call, {
        tolerance: 1e-6,
        data: { x: packed(randomF32(rows * D, 1), dtype), weight: randomF32(D, 2) },
      });
    });
  }
});
