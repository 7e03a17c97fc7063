/** Short work is measured many times at once on a real GPU, and as it is on a software one. */
import { describe, expect, it } from "vitest";
import type { Gpu } from "../../src/gpu/device.js";
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import { Stopwatch } from "../../src/program/stopwatch.js";

/** A GPU that takes this long for each piece, and what was handed over to it. */
function clockwork(pieceMs: number, isSoftware: boolean) {
  const counts: number[] = [];
  let waiting = 0;
  const gpu = {
    traits: { ...PORTABLE_TRAITS, isSoftware },
    device: {
      queue: {
        submit: ([commands]: readonly { readonly count: number }[]) => {
          counts.push(commands!.count);
          waiting = commands!.count * pieceMs;
        },
      },
    },
    idle: async () => {
      const end = performance.now() + waiting;
      while (performance.now() < end);
    },
  };
  const watch = new Stopwatch(gpu as unknown as Gpu);
  const best = (repeats: number): Promise<number> =>
    watch.best((count) => ({ count }) as unknown as GPUCommandBuffer, repeats);
  return { best, counts };
}

describe("a stopwatch", () => {
  it("hands over pieces one by one on a software GPU", async () => {
    const { best, counts } = clockwork(0.5, true);
    expect(await best(2)).toBeGreaterThanOrEqual(0.5);
    expect(counts).toEqual([1, 1, 1]);
  });

  it("wakes a real GPU once, and hands over as many pieces as take milliseconds", async () => {
    const { best, counts } = clockwork(0.05, false);
    const start = performance.now();
    expect(await best(1)).toBeGreaterThanOrEqual(0.05);
    expect(performance.now() - start).toBeGreaterThan(300);
    expect(counts.at(-1)).toBeGreaterThanOrEqual(4 / 0.05 / 2);
    const before = counts.length;
    await best(1);
    // One that compiles, some that find the number, one that counts.
    expect(counts.length - before).toBeLessThan(12);
  });

  it("does not ask for ever more of work that takes no time", async () => {
    const { best, counts } = clockwork(0, false);
    await best(1);
    expect(counts.filter((count) => count > 4096)).toEqual([]);
  });
});
