/** What counts as a loss spike, which data is left out after one, and what a run with the rule needs. */
import { describe, expect, it } from "vitest";
import { dataStep, positionSchema, type Rollback } from "../../src/train/position.js";
import { checkRollback, remember, spikeLimit } from "../../src/train/spike.js";

describe("spikeLimit", () => {
  const noisy = [2, 2.1, 1.9, 2.2, 1.8, 2, 2.1, 1.9, 2.2, 1.8];

  it("knows nothing from fewer than ten losses", () => {
    expect(spikeLimit(noisy.slice(1), 1)).toBe(Infinity);
  });

  it("is the median and so many standard deviations, by the median absolute deviation", () => {
    // Distances from the median 2: 0 twice, 0.1 four times, 0.2 four times; their median is 0.1.
    expect(spikeLimit(noisy, 6)).toBeCloseTo(2 + 6 * 1.4826 * 0.1, 12);
  });

  it("is hardly moved by one loss that is far away", () => {
    expect(spikeLimit([...noisy, 1000], 6)).toBeLessThan(4);
  });

  it("leaves room above losses that do not move at all", () => {
    expect(
      spikeLimit(
        Array.from({ length: 12 }, () => 3),
        5,
      ),
    ).toBeCloseTo(3 * 1.1, 12);
  });
});

describe("remember", () => {
  it("keeps the last twenty", () => {
    let recent: readonly number[] = [];
    for (let i = 0; i < 25; i++) recent = remember(recent, i);
    expect(recent).toEqual(Array.from({ length: 20 }, (_, i) => i + 5));
  });
});

describe("dataStep", () => {
  const rollback = (...leftOut: readonly number[]): Rollback => ({
    step: 1,
    to: 0,
    loss: 9,
    left_out: [...leftOut],
  });

  it("goes over all data but what was left out, in order", () => {
    const steps = (...rollbacks: readonly Rollback[]): number[] =>
      Array.from({ length: 6 }, (_, step) => dataStep(step, rollbacks));
    expect(steps()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(steps(rollback(2, 3))).toEqual([0, 1, 4, 5, 6, 7]);
    expect(steps(rollback(4, 5), rollback(0, 3, 6))).toEqual([1, 2, 7, 8, 9, 10]);
  });
});

describe("a position", () => {
  it("of a checkpoint from before there were rollbacks has none", () => {
    const old = { step: 3, tokens: 30, skipped: 0, skipped_in_a_row: 0, evaluation_pending: false };
    expect(positionSchema.parse(old)).toEqual({ ...old, rollbacks: [], recent_losses: [] });
  });
});

describe("checkRollback", () => {
  it("wants checkpoints to go back to", () => {
    expect(() => checkRollback({ loss_spike_rollback: 6 })).toThrow(/makes none on the way/);
    expect(() => checkRollback({ loss_spike_rollback: 6, save_steps: 5 }, false)).toThrow(
      /makes none on the way/,
    );
    checkRollback({ loss_spike_rollback: 6, save_steps: 5 });
    checkRollback({});
  });
});
