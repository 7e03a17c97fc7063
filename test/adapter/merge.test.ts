/** Merging against dense f64 matrices: B A written out, norms of whole rows. */
import { describe, expect, it } from "vitest";
import { mergeRows } from "../../src/adapter/merge.js";
import { randomF32 } from "../kernels/harness.js";

const OUT = 7;
const IN = 65;
const RANK = 3;
const SCALING = 1.75;

const base = randomF32(OUT * IN, 1);
const a = randomF32(RANK * IN, 2);
const b = randomF32(OUT * RANK, 3);
const magnitude = randomF32(OUT, 4).map((v) => 2 + v);
const shape = { in: IN, rank: RANK, scaling: SCALING };

/** V = W + s B A as rows of numbers. */
function summed(weight: Float32Array): number[][] {
  return Array.from({ length: OUT }, (_, j) =>
    Array.from({ length: IN }, (__, k) => {
      const products = Array.from({ length: RANK }, (___, r) => b[j * RANK + r]! * a[r * IN + k]!);
      return weight[j * IN + k]! + SCALING * products.reduce((x, y) => x + y, 0);
    }),
  );
}

/** One rounding to f32 of a number near 10. */
const TOLERANCE = 1e-6;

function expectClose(got: Float32Array, want: readonly number[]): void {
  expect(got.length).toBe(want.length);
  expect(Math.max(...want.map((v, i) => Math.abs(v - got[i]!)))).toBeLessThan(TOLERANCE);
}

describe("mergeRows", () => {
  it("LoRA: W + s B A", () => {
    const rows = base.slice();
    mergeRows(rows, 0, shape, { a, b });
    expectClose(rows, summed(base).flat());
  });

  it("DoRA: every row has the length that its magnitude says", () => {
    const rows = base.slice();
    mergeRows(rows, 0, shape, { a, b, magnitude });
    const want = summed(base).map((row, j) => {
      const norm = Math.hypot(...row);
      return row.map((v) => (magnitude[j]! / norm) * v);
    });
    expectClose(rows, want.flat());
    for (let j = 0; j < OUT; j++)
      expect(Math.hypot(...rows.subarray(j * IN, (j + 1) * IN))).toBeCloseTo(magnitude[j]!, 5);
  });

  it("pieces of rows give what the whole matrix gives", () => {
    const whole = base.slice();
    mergeRows(whole, 0, shape, { a, b, magnitude });
    const piece = base.slice(3 * IN, 6 * IN);
    mergeRows(piece, 3, shape, { a, b, magnitude });
    expect(piece).toEqual(whole.slice(3 * IN, 6 * IN));
  });

  it("a row that is all zero stays zero, without NaN", () => {
    const rows = base.slice();
    rows.fill(0, 2 * IN, 3 * IN);
    mergeRows(rows, 0, shape, { a, b: new Float32Array(b.length), magnitude });
    expect(rows.slice(2 * IN, 3 * IN)).toEqual(new Float32Array(IN));
    expect(rows.every((v) => Number.isFinite(v))).toBe(true);
  });

  it("a negative magnitude turns a row round, as in training", () => {
    const rows = base.slice();
    mergeRows(rows, 0, shape, { a, b, magnitude: magnitude.map((m) => -m) });
    const positive = base.slice();
    mergeRows(positive, 0, shape, { a, b, magnitude });
    expect(rows).toEqual(positive.map((v) => -v));
  });
});
