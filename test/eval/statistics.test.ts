/** Means, standard errors, the exact McNemar test (against scipy.stats.binomtest) and the bootstrap. */
import { describe, expect, it } from "vitest";
import { bootstrapInterval, mean, pairedAccuracy, ratio, signTest } from "../../src/eval/statistics.js";

/** scipy 1.17: binomtest(a, a + b).pvalue */
const SIGN_TESTS: readonly (readonly [number, number, number])[] = [
  [3, 7, 0.34375],
  [0, 3, 0.25],
  [40, 60, 0.05688793364098089],
  [0, 0, 1],
  [5, 5, 1],
  [1200, 1100, 0.03896685268382023],
];

describe("statistics", () => {
  it("has the standard error of a mean from n - 1", () => {
    expect(mean([1, 0, 0, 1])).toEqual({ value: 0.5, standardError: Math.sqrt(1 / 3 / 4) });
    expect(mean([1])).toEqual({ value: 1, standardError: undefined });
  });
  it.each(SIGN_TESTS)("gives scipy's p for %i to %i", (a, b, p) => {
    expect(signTest(a, b)).toBeCloseTo(p, 10);
    expect(signTest(b, a)).toBeCloseTo(p, 10);
  });
  it("pairs items: what both have right adds nothing", () => {
    const paired = pairedAccuracy([1, 1, 0, 1, 1], [1, 0, 1, 0, 0]);
    expect(paired).toMatchObject({ onlyAdapter: 3, onlyBase: 1, pValue: 0.625 });
    expect(paired.difference).toBeCloseTo(0.4, 12);
    // Differences 0, 1, -1, 1, 1: variance (n - 1) 0.8.
    expect(paired.standardError).toBeCloseTo(Math.sqrt(0.8 / 5), 12);
  });
  it("weighs rows by their tokens", () => {
    const rows = [
      { sum: 2, weight: 1 },
      { sum: 2, weight: 3 },
    ];
    const { value, standardError } = ratio(rows);
    expect(value).toBe(1);
    // Residuals 1 and -1.
    expect(standardError).toBeCloseTo(Math.sqrt((2 * 2) / 1) / 4, 12);
  });
  it("brackets the ratio, the same each time, about two standard errors wide", () => {
    const rows = Array.from({ length: 400 }, (_, i) => ({ sum: Math.sin(i * 7) + 0.5, weight: 1 + (i % 3) }));
    const [low, high] = bootstrapInterval(rows);
    const { value, standardError = NaN } = ratio(rows);
    expect(bootstrapInterval(rows)).toEqual([low, high]);
    expect(low).toBeLessThan(value);
    expect(high).toBeGreaterThan(value);
    // 2 x 1.96; a quarter of it for 1,000 draws' own scatter.
    expect((high - low) / standardError).toBeGreaterThan(3.92 * 0.75);
    expect((high - low) / standardError).toBeLessThan(3.92 * 1.25);
  });
});
