import { expect, it } from "vitest";
import { packBlocks, unpackBlocks } from "../../src/quant/block_float.js";
import { f32ToBf16 } from "../../src/formats/floats.js";
import { callConvertRows } from "../../src/kernels/convert_rows.js";
import type { DType } from "../../src/program/tensor.js";
import { compareWithTwin, given, randomF32, runVariants, useGpu } from "./harness.js";

const context = useGpu();

const cases: readonly (readonly [DType, DType, number, number])[] = [
  ["f32", "bf16", 1, 2],
  ["f32", "bf16", 65, 34],
  ["bf16", "f32", 7, 66],
  ["f32", "f32", 33, 6],
  ["bf16", "bf16", 5, 130],
  ["f32", "bfp16", 1, 4],
  ["f32", "bfp16", 65, 36],
  ["bfp16", "f32", 7, 68],
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
    data: { x: from === "bf16" ? f32ToBf16(values) : from === "bfp16" ? packBlocks(values) : values },
  });
});

/** Blocks that ask something of the rounding, each compared by its bits. */
const BLOCKS: readonly (readonly number[])[] = [
  [0, -0, 0, 0],
  [1, 2 ** -13, 1.5 * 2 ** -13, -2.5 * 2 ** -13],
  [2 - 2 ** -20, 2 ** -14, -(2 - 2 ** -20), 1],
  [3.4028234e38, -3.4028234e38, 1e35, 1e33],
  [2 ** -97, 0, 0, 0],
  [2 ** -96, -(2 ** -100), 0, 2 ** -149],
  [1e4, 1, -1, 0.4],
  [Infinity, 1, 2, 3],
  [1, -Infinity, 2, 3],
  [1, 2, NaN, 3],
];

it("packs blocks to the host's bits: ties, the ends of the range, NaN and infinity", async () => {
  const values = Float32Array.from(BLOCKS.flat());
  const shape = [BLOCKS.length, 4];
  const s = { N: BLOCKS.length, width: 4 };
  const packing = callConvertRows("test", { x: given("x", shape), y: given("y", shape, "bfp16") }, s);
  const want = packBlocks(values);
  const unpacking = callConvertRows("test", { x: given("x", shape, "bfp16"), y: given("y", shape) }, s);
  for (const { y } of (await runVariants(context.gpu, packing, { x: values })).values())
    expect(y).toEqual(unpackBlocks(want));
  for (const { y } of (await runVariants(context.gpu, unpacking, { x: want })).values())
    expect(y).toEqual(unpackBlocks(want));
});

it("refuses blocks across rows, and one packed type as another", () => {
  const [narrow, wide] = [given("x", [4, 6]), given("w", [4, 8])];
  const s = { N: 4, width: 6 };
  expect(() => callConvertRows("test", { x: narrow, y: given("y", [4, 6], "bfp16") }, s)).toThrow(/cannot/);
  const t = { x: given("x", [4, 8], "bf16"), y: given("y", [4, 8], "bfp16") };
  expect(() => callConvertRows("test", t, { N: 4, width: 8 })).toThrow(/cannot convert 32/);
  expect(() => callConvertRows("test", { ...t, x: wide }, { N: 4, width: 8 })).not.toThrow();
});

it("refuses an odd number of values", () => {
  const t = given("x", [3, 3]);
  expect(() => callConvertRows("test", { x: t, y: given("y", [3, 3], "bf16") }, { N: 3, width: 3 })).toThrow(
    /cannot convert 9/,
  );
});
