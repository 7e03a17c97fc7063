import { describe, expect, it } from "vitest";
import { addRowSquares, padCodeRows } from "../../src/quant/rows.js";

describe("addRowSquares", () => {
  it("adds pieces that start and end inside rows", () => {
    const values = Float32Array.from({ length: 15 }, (_, i) => i);
    const squares = new Float64Array(3);
    for (const [from, to] of [
      [0, 7],
      [7, 8],
      [8, 15],
    ] as const)
      addRowSquares(squares, values.subarray(from, to), from, 5);
    expect([...squares]).toEqual([30, 255, 730]);
  });
});

describe("padCodeRows", () => {
  it("starts odd rows at whole words", () => {
    // Rows of three codes: 1 2 3, 4 5 6, 7 8 9.
    const codes = Uint8Array.of(0x12, 0x34, 0x56, 0x78, 0x90);
    expect([...padCodeRows(codes, 3, 3)]).toEqual([0x12, 0x30, 0, 0, 0x45, 0x60, 0, 0, 0x78, 0x90, 0, 0]);
  });
});
