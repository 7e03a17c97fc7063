import { describe, expect, it } from "vitest";
import { holdOut, repeatByWeight } from "../../src/data/mix.js";

const files = [{ rows: 4 }, { rows: 6 }];

describe("repeatByWeight", () => {
  it("is each row once where nothing else is asked for", () => {
    expect(repeatByWeight(files, undefined, [1, 1], 0)).toBeUndefined();
  });

  it("repeats whole rows, and draws the rest by the seed", () => {
    expect([...(repeatByWeight(files, undefined, [2, 1], 0) ?? [])]).toEqual([
      0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    const half = [...(repeatByWeight(files, undefined, [1, 0.5], 3) ?? [])];
    expect(half.slice(0, 4)).toEqual([0, 1, 2, 3]);
    const drawn = half.slice(4);
    expect(drawn).toHaveLength(3);
    expect(new Set(drawn).size).toBe(3);
    expect(drawn.every((row) => row >= 4 && row < 10)).toBe(true);
    expect(drawn).toEqual(drawn.toSorted((a, b) => a - b));
    expect([...(repeatByWeight(files, undefined, [1, 0.5], 3) ?? [])]).toEqual(half);
    const seeds = [0, 1, 2, 3, 4, 5].map((seed) => String(repeatByWeight(files, undefined, [1, 0.5], seed)));
    expect(new Set(seeds).size).toBeGreaterThan(1);
    expect(repeatByWeight(files, undefined, [1, 0.01], 0)).toHaveLength(5);
    expect(repeatByWeight(files, undefined, [1.5, 2.5], 0)).toHaveLength(6 + 15);
  });

  it("never trains on a held-out row", () => {
    const held = holdOut(files, 0.5, 1) ?? new Uint32Array();
    expect(held).toHaveLength(5);
    const train = repeatByWeight(files, held, [3, 2], 1) ?? new Uint32Array();
    expect([...train].some((row) => held.includes(row))).toBe(false);
    expect(new Set([...train, ...held]).size).toBe(10);
  });
});
