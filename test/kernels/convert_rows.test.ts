import { expect, it } from "vitest";
import { f32ToBf16 } from "../../src/formats/floats.js";
import { callConvertRows } from "../../src/kernels/convert_rows.js";
import type { DType } from "../../src/program/tensor.js";
import { compareWithTwin, given, randomF32, useGpu } from "./harness.js";

const context = useGpu();

const cases: readonly (readonly [DType, DType, number, number])[] = [
  ["f32", "bf16", 1, 2],
  ["f32", "bf16", 65, 34],
  ["bf16", "f32", 7, 66],
  ["f32", "f32", 33, 6],
  ["bf16", "bf16", 5, 130],
];

it.each(cases)("%s to %s, %i rows of %i, exactly as the host rounds", async (from, to, N, width) => {
  const call = callConvertRows(
    "test",
    { x: given("x", [N + 1, width], from), y: given("y", [N, width], to) },
    { N, width },
  );
  const values = randomF32((N + 1) * width, 3);
  // Ties, and the largest values that still round to a finite bf16.
  values.set([1.00390625, 1.01171875].slice(0, width), 0);
  await compareWithTwin(context.gpu, call, {
    tolerance: 0,
    data: { x: from === "bf16" ? f32ToBf16(values) : values },
  });
});

it("refuses an odd number of values", () => {
  const t = given("x", [3, 3]);
  expect(() => callConvertRows("test", { x: t, y: given("y", [3, 3], "bf16") }, { N: 3, width: 3 })).toThrow(
    /cannot convert 9/,
  );
});
