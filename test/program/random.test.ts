import { expect, it } from "vitest";
import { RandomSource } from "../../src/program/random.js";

it("gives the same numbers for the same seed and other ones for another seed or stream", () => {
  const draw = (seed: number, stream: number): number[] => {
    const random = new RandomSource(seed, stream);
    return Array.from({ length: 8 }, () => random.nextU32());
  };
  expect(draw(7, 1)).toEqual(draw(7, 1));
  expect(draw(7, 1)).not.toEqual(draw(8, 1));
  expect(draw(7, 1)).not.toEqual(draw(7, 2));
  expect(draw(2 ** 32 + 7, 1)).not.toEqual(draw(7, 1));
});

it("is uniform: mean and variance of 100,000 draws within 5 standard errors", () => {
  const random = new RandomSource(0, 0);
  const n = 100_000;
  const draws = Array.from({ length: n }, () => random.nextUniform());
  const mean = draws.reduce((a, b) => a + b, 0) / n;
  const variance = draws.reduce((a, b) => a + (b - mean) ** 2, 0) / n;
  expect(Math.abs(mean - 0.5)).toBeLessThan(5 / Math.sqrt(12 * n));
  // The variance of a uniform square deviation is 1/180.
  expect(Math.abs(variance - 1 / 12)).toBeLessThan(5 / Math.sqrt(180 * n));
});

it("draws every number below n and none above", () => {
  const random = new RandomSource(3, 0);
  const seen = new Set(Array.from({ length: 500 }, () => random.nextBelow(7)));
  expect([...seen].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6]);
});
