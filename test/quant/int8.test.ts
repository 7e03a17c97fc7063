import { describe, expect, it } from "vitest";
import { int8RowBytes, quantizeInt8Rows } from "../../src/quant/int8.js";
import { randomF32 } from "../kernels/harness.js";

function quantized(values: Float32Array, width: number): { codes: Int8Array; absmax: Float32Array } {
  const rows = values.length / width;
  const codes = new Int8Array(rows * int8RowBytes(width)).fill(99);
  const absmax = new Float32Array(rows).fill(99);
  quantizeInt8Rows(values, width, codes, absmax);
  return { codes, absmax };
}

describe("quantizeInt8Rows", () => {
  it("scales each row by its largest magnitude and pads it with zeros to whole words", () => {
    const { codes, absmax } = quantized(Float32Array.of(1, -2, 0.5, 0, 0, 0, -0.25, 0.125, 0.1, 3, 0, -3), 3);
    expect([...absmax]).toEqual([2, 0, 0.25, 3]);
    expect([...codes]).toEqual([64, -127, 32, 0, 0, 0, 0, 0, -127, 64, 51, 0, 127, 0, -127, 0]);
  });

  it("rounds ties to the even code, and only ties", () => {
    // With an absmax of 127 a value is its code.
    const above = (v: number): number => Math.fround(v * (1 + 2 ** -22));
    const below = (v: number): number => Math.fround(v * (1 - 2 ** -22));
    const values = [
      127,
      0.5,
      1.5,
      2.5,
      -0.5,
      -1.5,
      -2.5,
      126.5,
      above(0.5),
      below(1.5),
      above(2.5),
      below(126.5),
    ];
    const { codes } = quantized(Float32Array.from(values), values.length);
    expect([...codes]).toEqual([127, 0, 2, 2, 0, -2, -2, 126, 1, 1, 3, 126]);
  });

  it("is off by at most half a code", () => {
    const width = 577;
    const values = randomF32(9 * width, 3).map((v, i) => v * 10 ** (Math.floor(i / width) * 9 - 36));
    const { codes, absmax } = quantized(values, width);
    for (const [i, v] of values.entries()) {
      const row = Math.floor(i / width);
      const code = codes[row * int8RowBytes(width) + (i % width)]!;
      expect(Math.abs((code / 127) * absmax[row]! - v)).toBeLessThanOrEqual(
        (absmax[row]! / 254) * (1 + 1e-12),
      );
    }
  });

  it("keeps the smallest numbers of f32", () => {
    const { codes, absmax } = quantized(Float32Array.of(2 ** -149, -(2 ** -149), 0), 3);
    expect([absmax[0], ...codes]).toEqual([2 ** -149, 127, -127, 0, 0]);
  });
});
