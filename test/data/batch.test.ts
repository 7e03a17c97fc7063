import { describe, expect, it } from "vitest";
import { longestMicroBatchTokens, makeMicroBatch } from "../../src/data/batch.js";
import { packRows } from "../../src/data/pack.js";
import type { EncodedRow } from "../../src/data/row.js";
import { packedUnits, singleUnits } from "../../src/data/token_rows.js";

const row = (ids: number[], labels = ids): EncodedRow => ({
  inputIds: Int32Array.from(ids),
  labels: Int32Array.from(labels),
  truncated: false,
  scored: labels.slice(1).filter((label) => label !== -100).length,
});

describe("makeMicroBatch", () => {
  it("lays rows end to end and shifts labels within each row", () => {
    const batch = makeMicroBatch([row([5, 6, 7]), row([8]), row([1, 2, 3], [1, -100, 3])]);
    expect(batch).toEqual({
      tokens: 7,
      inputIds: Int32Array.of(5, 6, 7, 8, 1, 2, 3),
      positions: Int32Array.of(0, 1, 2, 0, 0, 1, 2),
      sequenceStart: Int32Array.of(0, 0, 0, 3, 4, 4, 4),
      sequenceEnd: Int32Array.of(3, 3, 3, 4, 7, 7, 7),
      labels: Int32Array.of(6, 7, -100, -100, -100, 3, -100),
      scored: 3,
    });
    expect(batch.labels.filter((label) => label !== -100)).toHaveLength(batch.scored);
  });

  it("makes an empty batch of no rows", () => {
    expect(makeMicroBatch([])).toMatchObject({ tokens: 0, scored: 0 });
  });
});

describe("longestMicroBatchTokens", () => {
  const rows = (...lengths: number[]) => ({
    length: lengths.length,
    tokensOf: (index: number) => lengths[index] ?? 0,
  });
  const train = rows(3, 9, 4, 8);
  const units = singleUnits(4);

  it("is the longest units together, or the longest held-out row", () => {
    expect(longestMicroBatchTokens({ train, validation: rows(), units }, 1)).toBe(9);
    expect(longestMicroBatchTokens({ train, validation: rows(), units }, 2)).toBe(17);
    expect(longestMicroBatchTokens({ train, validation: rows(), units }, 10)).toBe(24);
    expect(longestMicroBatchTokens({ train, validation: rows(2, 30), units }, 2)).toBe(30);
    const bins = packedUnits([
      [0, 1],
      [2, 3],
    ]);
    expect(longestMicroBatchTokens({ train, validation: rows(), units: bins }, 1)).toBe(12);
  });
});

describe("packRows", () => {
  it("puts each row into the first bin that has room", () => {
    expect(packRows([6, 5, 3, 4, 1, 10], 10)).toEqual([[0, 2, 4], [1, 3], [5]]);
    expect(packRows([], 10)).toEqual([]);
    expect(packRows([10], 10)).toEqual([[0]]);
  });

  it("does what plain first fit does, on many rows", () => {
    const lengths = Array.from({ length: 500 }, (_, i) => 1 + ((i * 7919) % 97));
    const plain: { rows: number[]; room: number }[] = [];
    for (const [i, length] of lengths.entries()) {
      let bin = plain.find((b) => b.room >= length);
      if (!bin) plain.push((bin = { rows: [], room: 128 }));
      bin.rows.push(i);
      bin.room -= length;
    }
    expect(packRows(lengths, 128)).toEqual(plain.map((b) => b.rows));
  });
});
