/** The low-rank products and their gradients. */
import { describe, expect, it } from "vitest";
import { callLowrankDown, callLowrankGradient } from "../../src/kernels/lowrank.js";
import { compareWithTwin, expectClose, finiteDifference, given, randomF32, useGpu } from "./harness.js";

const context = useGpu();

/** Sums of up to 576 products in f32 against f64. */
const TOLERANCE = 3e-6;

const LAYOUTS = ["rows", "columns"] as const;
const SHAPES = [
  [1, 64, 16],
  [7, 65, 3],
  [33, 100, 5],
  [65, 576, 16],
  [130, 40, 33],
  [3, 1, 1],
] as const;

describe("lowrank", () => {
  for (const layout of LAYOUTS) {
    for (const [i, [N, K, rank]] of SHAPES.entries()) {
      it(`down and gradient equal their twins: ${layout}, N ${N}, K ${K}, rank ${rank}`, async () => {
        const factor = layout === "rows" ? [rank, K] : [K, rank];
        const s = { N, K, rank, layout };
        // Of B, every other shape in rows that count g times, with and without a bias beside it.
        const perRow = layout === "rows" || i % 2 === 1 ? 0 : 1 + ((i / 2) % 2);
        const scale = perRow > 0 && { scale_bias: given("sb", [K, perRow]) };
        const scale_bias = randomF32(perRow * K, 4);
        const down = callLowrankDown(
          "test",
          { x: given("x", [N + 2, K]), w: given("w", factor), p: given("p", [N + 2, rank]), ...scale },
          { ...s, alpha: 0.7 },
        );
        const names = await compareWithTwin(context.gpu, down, {
          tolerance: TOLERANCE,
          data: {
            x: randomF32((N + 2) * K, 1),
            w: randomF32(K * rank, 2),
            p: randomF32((N + 2) * rank, 3),
            scale_bias,
          },
        });
        const isSplit = K % 4 === 0 && (layout === "rows" || rank % 4 === 0);
        expect(names).toEqual([
          ...(context.gpu.traits.isSoftware && K % 4 === 0 ? ["software"] : []),
          ...(isSplit ? ["split"] : []),
          "tile",
        ]);
        const gradient = callLowrankGradient(
          "test",
          {
            wide: given("wide", [N, K]),
            narrow: given("narrow", [N, rank]),
            gradient: given("gradient", factor),
            ...scale,
          },
          s,
        );
        await compareWithTwin(context.gpu, gradient, {
          tolerance: TOLERANCE,
          data: {
            wide: randomF32(N * K, 1),
            narrow: randomF32(N * rank, 2),
            gradient: randomF32(K * rank, 3),
            scale_bias,
          },
        });
      });
    }

    it(`gradient is the derivative of down: ${layout}`, () => {
      const [N, K, rank] = [3, 5, 2];
      const factor = layout === "rows" ? [rank, K] : [K, rank];
      const x = Float64Array.from(randomF32(N * K, 1));
      const dp = Float64Array.from(randomF32(N * rank, 2));
      const down = callLowrankDown(
        "test",
        { x: given("x", [N, K]), w: given("w", factor), p: given("p", [N, rank]) },
        { N, K, rank, alpha: 1, layout },
      );
      const back = callLowrankGradient(
        "test",
        { wide: given("x", [N, K]), narrow: given("dp", [N, rank]), gradient: given("g", factor) },
        { N, K, rank, layout },
      );
      const loss = (w: Float64Array): number => {
        const p = new Float64Array(N * rank);
        down.kernel.twin({ x, w, p }, down);
        return p.reduce((sum, v, i) => sum + v * dp[i]!, 0);
      };
      const gradient = new Float64Array(K * rank);
      back.kernel.twin({ wide: x, narrow: dp, gradient }, back);
      // Linear: only cancellation, about 2^-52 / 1e-5.
      expectClose(
        gradient,
        finiteDifference(Float64Array.from(randomF32(K * rank, 3)), loss),
        1e-9,
        "gradient",
      );
    });
  }

  it("have no g for the rows of A", () => {
    const scale_bias = given("g", [5, 1]);
    const t = { x: given("x", [3, 5]), w: given("w", [2, 5]), p: given("p", [3, 2]), scale_bias };
    const sizes = { N: 3, K: 5, rank: 2, layout: "rows" } as const;
    expect(() => callLowrankDown("test", t, { ...sizes, alpha: 1 })).toThrow(/g scales rows of B alone/);
  });
});
