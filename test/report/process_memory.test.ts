/** What the process holds in RAM. */
import { getHeapSpaceStatistics } from "node:v8";
import { expect, it } from "vitest";
import { keepYoungSpaceSmall, peakResidentBytes, resetPeak } from "../../src/report/process_memory.js";

const youngBytes = (): number =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_size ?? Number.NaN;

/** Objects that live long enough to be copied, for which V8 makes its young space larger. */
function allocate(): number {
  let kept: object[] = [];
  for (let i = 0; i < 2_000_000; i++) {
    kept.push({ i });
    if (kept.length > 200_000) kept = [];
  }
  return kept.length;
}

it("keeps the young space as it is", () => {
  keepYoungSpaceSmall();
  const before = youngBytes();
  allocate();
  // A fresh process has 1 MB, with or without the flag twice that after its first collection.
  expect(youngBytes()).toBeLessThanOrEqual(Math.max(before, 2 * 2 ** 20));
});

it("counts the peak from the start, or anew", () => {
  // What earlier tests held and gave back counts no longer, and the block is larger than what V8 may give back meanwhile.
  resetPeak();
  const before = peakResidentBytes();
  const block = Buffer.alloc(256 * 1024 * 1024, 1);
  expect(peakResidentBytes()).toBeGreaterThan(before);
  expect(block.length).toBeGreaterThan(0);
});
