/** Sums that the lanes of a workgroup share: every shape of a workgroup gives the twins' numbers, and the shapes suit the calls. */
import { describe, expect, it } from "vitest";
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import { callAdapterGram } from "../../src/kernels/dora_row_norm.js";
import { callDoraBackward } from "../../src/kernels/dora.js";
import { callLowrankDown, callLowrankGradient, type FactorLayout } from "../../src/kernels/lowrank.js";
import type { Call, Variant } from "../../src/program/kernel.js";
import { compareWithTwin, given, randomF32, useGpu } from "./harness.js";

const context = useGpu();

/** Sums of up to 4100 products in f32 against f64, in pieces. */
const TOLERANCE = 3e-6;
/** Variants that split sums; the others are in lowrank.test.ts and dora.test.ts. */
const only = ["split", "column"];

interface Shape {
  readonly N: number;
  readonly K: number;
  readonly rank: number;
  readonly layout: FactorLayout;
}

const factorOf = ({ K, rank, layout }: Shape): readonly number[] =>
  layout === "rows" ? [rank, K] : [K, rank];

const down = (s: Shape): Call =>
  callLowrankDown(
    "test",
    { x: given("x", [s.N, s.K]), w: given("w", factorOf(s)), p: given("p", [s.N, s.rank]) },
    { ...s, alpha: 0.7 },
  );

const gradient = (s: Shape): Call =>
  callLowrankGradient(
    "test",
    {
      wide: given("wide", [s.N, s.K]),
      narrow: given("narrow", [s.N, s.rank]),
      gradient: given("gradient", factorOf(s)),
    },
    s,
  );

const backward = (N: number, out: number, rank: number): Call =>
  callDoraBackward(
    "test",
    {
      dy: given("dy", [N, out]),
      y: given("y", [N, out]),
      scale_bias: given("sb", [out, 2]),
      magnitude: given("m", [out]),
      gradient: {
        p: given("p", [N, rank]),
        gradient: given("g", [out * (rank + 1)]),
        rank,
        bAt: 0,
        mAt: out * rank,
      },
    },
    { N, out },
  );

/** What is taken without measurements. */
function first(call: Call, isSoftware: boolean): Variant {
  const traits = { ...PORTABLE_TRAITS, isSoftware };
  const variant = call.kernel.variants.find((v) => v.accepts(call, traits));
  if (!variant) throw new Error(`no variant of ${call.kernel.name}`);
  return variant;
}

/** The first variant of real GPUs, what tells its workgroup's shape, and how many workgroups there are. */
function chosen(call: Call, ...names: readonly string[]): readonly unknown[] {
  const variant = first(call, false);
  const defines = variant.defines(call, PORTABLE_TRAITS);
  const [x, y, z] = variant.grid(call, defines);
  return [variant.name, ...names.map((name) => defines[name]), x * y * z];
}

describe("sums over K", () => {
  for (const [N, K, rank, layout, shape] of [
    [509, 68, 16, "rows", [4, 16, 128]],
    [511, 8, 12, "columns", [4, 16, 128]],
    [254, 1032, 13, "rows", [4, 8, 128]],
    [127, 260, 16, "columns", [2, 8, 128]],
    [3, 4100, 8, "columns", [1, 4, 6]],
    [300, 20, 1, "rows", [2, 4, 150]],
  ] as const) {
    it(`have the twin's numbers: ${layout}, N ${N}, K ${K}, rank ${rank}`, async () => {
      const call = down({ N, K, rank, layout });
      expect(chosen(call, "TOKENS", "RANKS")).toEqual(["split", ...shape]);
      const data = { x: randomF32(N * K, 1), w: randomF32(K * rank, 2), p: randomF32(N * rank, 3) };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data, only });
    });
  }

  for (const rank of [16, 5]) {
    it(`have the twin's numbers: A At of rank ${rank}, wider than a workgroup`, async () => {
      const [wide, narrow] = [
        { rank, in: 1028, at: 0 },
        { rank, in: 4, at: rank * 1028 },
      ];
      const elements = rank * (1028 + 4);
      const call = callAdapterGram(
        "test",
        { a: given("a", [elements]), gram: given("gram", [2 * 256]) },
        [wide, narrow],
        256,
      );
      expect(chosen(call)).toEqual(["split", 2 * Math.ceil(rank / 2) * Math.ceil(rank / 4)]);
      await compareWithTwin(context.gpu, call, {
        tolerance: TOLERANCE,
        data: { a: randomF32(elements, 1) },
        only,
      });
    });
  }

  it("are not split where rows are no whole vectors", () => {
    expect(chosen(down({ N: 256, K: 66, rank: 16, layout: "rows" }))[0]).toBe("tile");
    expect(chosen(down({ N: 256, K: 64, rank: 6, layout: "columns" }))[0]).toBe("tile");
    const t = { a: given("a", [66]), gram: given("gram", [4]) };
    expect(chosen(callAdapterGram("test", t, [{ rank: 2, in: 33, at: 0 }], 4))[0]).toBe("row");
  });
});

describe("sums over tokens", () => {
  for (const [N, K, rank, layout, shape] of [
    [37, 4070, 7, "columns", [32, 8, 128]],
    [33, 4070, 12, "rows", [32, 8, 128]],
    [67, 40, 16, "columns", [16, 16, 3]],
    [63, 17, 5, "rows", [16, 16, 2]],
  ] as const) {
    it(`have the twin's numbers: ${layout}, N ${N}, K ${K}, rank ${rank}`, async () => {
      const call = gradient({ N, K, rank, layout });
      expect(chosen(call, "LANES", "ROWS")).toEqual(["split", ...shape]);
      const data = {
        wide: randomF32(N * K, 1),
        narrow: randomF32(N * rank, 2),
        gradient: randomF32(K * rank, 3),
      };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data, only });
    });
  }

  for (const [N, out, rank, shape] of [
    [37, 4070, 16, [32, 8, 128]],
    [67, 40, 12, [16, 16, 3]],
    [5, 33, 9, [16, 16, 3]],
  ] as const) {
    it(`have the twin's numbers: DoRA, N ${N}, out ${out}, rank ${rank}`, async () => {
      const call = backward(N, out, rank);
      expect(chosen(call, "LANES", "ROWS")).toEqual(["column", ...shape]);
      const data = {
        dy: randomF32(N * out, 1),
        y: randomF32(N * out, 2),
        magnitude: randomF32(out, 4).map((v) => 1 + Math.abs(v)),
        scale_bias: randomF32(2 * out, 5),
        gradient: randomF32(out * (rank + 1), 6),
        p: randomF32(N * rank, 7),
      };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data, only });
    });
  }
});

it("a software adapter keeps its own variants, and does not time these", () => {
  const s: Shape = { N: 256, K: 4096, rank: 16, layout: "rows" };
  const factor = { rank: 4, in: 16, at: 0 };
  const t = { a: given("a", [64]), gram: given("gram", [16]) };
  for (const call of [down(s), gradient(s), callAdapterGram("test", t, [factor], 16)]) {
    expect(first(call, true).name).toBe("software");
    const split = first(call, false);
    expect(split.isTimed?.({ ...PORTABLE_TRAITS, isSoftware: true })).toBe(false);
    expect(split.isTimed?.(PORTABLE_TRAITS)).toBe(true);
  }
});
