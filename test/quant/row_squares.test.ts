import { describe, expect, it } from "vitest";
import { dequantizeNf4, quantizeNf4 } from "../../src/quant/nf4.js";
import { RowSquares } from "../../src/quant/row_squares.js";
import { addRowSquares } from "../../src/quant/rows.js";

describe("RowSquares", () => {
  // Widths that are whole blocks, that cut blocks, that are odd, and a block longer than several rows.
  for (const [rows, width, blockSize, piece] of [
    [12, 128, 64, 4],
    [96, 40, 64, 8],
    [64, 33, 64, 64],
    [130, 31, 64, 64],
    [48, 100, 128, 32],
    [9, 7, 64, 64],
  ] as const) {
    it(`[${rows}, ${width}] in blocks of ${blockSize}, ${piece} rows at a time`, () => {
      const count = rows * width;
      const values = Float32Array.from({ length: count }, (_, i) => Math.sin(i * i + 1) * (1 + (i % 5)));
      const { codes, absmax } = quantizeNf4(values, blockSize);
      const squares = new RowSquares(rows, width, blockSize);
      for (let row = 0; row < rows; row += piece)
        squares.add(codes.subarray((row * width) / 2), Math.min(piece, rows - row));
      const want = new Float64Array(rows);
      addRowSquares(want, dequantizeNf4(codes, absmax, count, blockSize), 0, width);
      // Dequantised values carry a rounding to f32 (2^-24 of each), their squares twice that; the result one more.
      squares
        .finish(absmax)
        .forEach((value, row) =>
          expect(Math.abs(value - want[row]!)).toBeLessThanOrEqual(3 * 2 ** -24 * want[row]!),
        );
    });
  }

  it("refuses to end before the last row", () => {
    const squares = new RowSquares(3, 64, 64);
    squares.add(new Uint8Array(64), 2);
    expect(() => squares.finish(new Float32Array(3))).toThrow("unfinished");
  });
});
