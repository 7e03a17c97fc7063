import { expect, it } from "vitest";
import { learningRateAt, type Scheduler } from "../../src/train/schedule.js";

const rates = (scheduler: Scheduler, warmupSteps: number): number[] =>
  Array.from({ length: 10 }, (_, step) =>
    learningRateAt({ scheduler, learningRate: 1, warmupSteps, totalSteps: 10 }, step),
  );

it("warms up from 0 and falls as transformers' schedulers", () => {
  expect(rates("linear", 2)).toEqual([0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]);
  expect(rates("constant", 4)).toEqual([0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]);
  const cosine = rates("cosine", 0);
  expect(cosine[0]).toBe(1);
  expect(cosine[5]).toBeCloseTo(0.5, 12);
});
