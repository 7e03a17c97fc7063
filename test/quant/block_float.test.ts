/** Block floating point on the CPU: what is kept, how far the rest may be off, and the ends of the range. */
import { expect, it } from "vitest";
import { packBlocks, unpackBlocks } from "../../src/quant/block_float.js";
import { bf16ToF32, f32ToBf16 } from "../../src/formats/floats.js";
import { randomF32 } from "../kernels/harness.js";

const stored = (...values: readonly number[]): readonly number[] => [
  ...unpackBlocks(packBlocks(Float32Array.from(values))),
];
const { max, abs } = Math;

it("takes 16 bits a value", () => {
  expect(packBlocks(new Float32Array(12)).byteLength).toBe(24);
});

it("keeps whole numbers of 14 bits with their sign, times any power of two", () => {
  for (const scale of [1, 2 ** -60, 2 ** 100])
    expect(stored(8191 * scale, -8191 * scale, 0, -1 * scale)).toEqual([
      8191 * scale,
      -8191 * scale,
      0,
      -1 * scale,
    ]);
});

it("rounds to nearest, ties to even, and a block's largest value never past 14 bits", () => {
  const step = 2 ** -12;
  expect(stored(1, 0.5 * step, 1.5 * step, -2.5 * step)).toEqual([1, 0, 2 * step, -2 * step]);
  expect(stored(2 - 2 ** -20, -(2 - 2 ** -20), 0.3 * step, 0.7 * step)).toEqual([
    2 - step,
    -(2 - step),
    0,
    step,
  ]);
});

it("is off by at most 2^-13 of the block's largest value, 16 times less than bf16 may be", () => {
  for (const scale of [1e-20, 1, 1e30]) {
    const values = randomF32(4000, 5, scale);
    const got = unpackBlocks(packBlocks(values));
    let worst = 0;
    for (let i = 0; i < values.length; i += 4) {
      const largest = max(...values.subarray(i, i + 4).map(abs));
      for (let j = i; j < i + 4; j++) worst = max(worst, abs(got[j]! - values[j]!) / largest);
    }
    expect(worst).toBeLessThanOrEqual(2 ** -13);
    const energy = (a: Float32Array): number =>
      a.reduce((sum, x, i) => sum + ((x - values[i]!) / scale) ** 2, 0);
    expect(energy(got)).toBeLessThan(energy(bf16ToF32(f32ToBf16(values))) / 200);
  }
});

it("overflows nowhere, and is zero only below 2^-96", () => {
  const largest = 3.4028234663852886e38;
  const [top = 0, bottom = 0] = stored(largest, -largest, 0, 0);
  expect(top).toBeGreaterThan(0.9998 * largest);
  expect(bottom).toBe(-top);
  expect(top).toBeLessThan(Infinity);
  expect(stored(2 ** -96, 0, 0, 0)[0]).toBe(2 ** -96);
  expect(stored(2 ** -97, 0, 0, 0)[0]).toBe(0);
});

it("hides no NaN and no infinity", () => {
  for (const broken of [NaN, Infinity, -Infinity])
    for (let at = 0; at < 4; at++) {
      const values = [1, 2, 3, 4].with(at, broken);
      for (const value of stored(...values)) expect(Number.isFinite(value)).toBe(false);
    }
});
