/** The low-rank products of several modules that share their input, as one. */
import { describe, expect, it } from "vitest";
import { callLowrankDown, callLowrankGradient } from "../../src/kernels/lowrank.js";
import { compareWithTwin, given, randomF32, useGpu } from "./harness.js";

const context = useGpu();

/** Sums of up to 576 products in f32 against f64. */
const TOLERANCE = 3e-6;

describe("modules that share their input", () => {
  for (const [N, K, rank, count, padding] of [
    [1, 5, 1, 2, 0],
    [33, 64, 3, 3, 5],
    [65, 576, 16, 3, 48],
    [7, 66, 20, 2, 1],
  ] as const) {
    const stride = N * rank + padding;
    const narrow = (count - 1) * stride + N * rank;
    const sizes = { N, K, rank: count * rank, layout: "rows" as const, members: { rank, stride } };

    it(`${count} of rank ${rank}: down equals its twin and each alone, N ${N}, K ${K}`, async () => {
      const call = callLowrankDown(
        "test",
        { x: given("x", [N, K]), w: given("w", [count * rank, K]), p: given("p", [narrow]) },
        { ...sizes, alpha: 0.5 },
      );
      const [x, w] = [randomF32(N * K, 1), randomF32(count * rank * K, 2)];
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data: { x, w } });
      const p = new Float64Array(narrow);
      call.kernel.twin({ x, w, p }, call);
      for (let m = 0; m < count; m++) {
        const one = callLowrankDown(
          "test",
          { x: given("x", [N, K]), w: given("w", [rank, K]), p: given("p", [N, rank]) },
          { N, K, rank, layout: "rows", alpha: 0.5 },
        );
        const alone = new Float64Array(N * rank);
        one.kernel.twin({ x, w: w.subarray(m * rank * K, (m + 1) * rank * K), p: alone }, one);
        expect(p.slice(m * stride, m * stride + N * rank)).toEqual(alone);
      }
    });

    it(`${count} of rank ${rank}: gradient equals its twin, N ${N}, K ${K}`, async () => {
      const call = callLowrankGradient(
        "test",
        { wide: given("x", [N, K]), narrow: given("q", [narrow]), gradient: given("g", [count * rank, K]) },
        sizes,
      );
      const data = {
        wide: randomF32(N * K, 1),
        narrow: randomF32(narrow, 2),
        gradient: randomF32(count * rank * K, 3),
      };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
    });
  }

  it("must not overlap", () => {
    const t = { x: given("x", [4, 8]), w: given("w", [6, 8]), p: given("p", [24]) };
    const sizes = { N: 4, K: 8, rank: 6, alpha: 1, layout: "rows" as const };
    expect(() => callLowrankDown("test", t, { ...sizes, members: { rank: 3, stride: 11 } })).toThrow(/11/);
    expect(() => callLowrankDown("test", t, { ...sizes, members: { rank: 4, stride: 16 } })).toThrow(
      /rank 4/,
    );
  });
});
