/** DoRA's magnitude gradient, with that of B and without. */
import { describe, expect, it } from "vitest";
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import { callDoraBackward } from "../../src/kernels/dora.js";
import { callRope } from "../../src/kernels/rope.js";
import { callLowrankGradient } from "../../src/kernels/lowrank.js";
import type { Call } from "../../src/program/kernel.js";
import {
  compareWithTwin,
  expectClose,
  finiteDifference,
  given,
  packed,
  randomF32,
  runTwin,
  useGpu,
} from "./harness.js";

const context = useGpu();

/** Sums of up to 576 products in f32 against f64. */
const TOLERANCE = 3e-6;

interface Read {
  /** 2 with a bias. */
  readonly perRow?: number;
  readonly stored?: "f32" | "bfp16";
}

/** What every call reads. */
const read = (N: number, out: number, { perRow = 1, stored = "f32" }: Read = {}) => ({
  dy: given("dy", [N, out]),
  y: given("y", [N, out], stored),
  scale_bias: given("sb", [out, perRow]),
  magnitude: given("m", [out]),
});

describe("dora_backward", () => {
  for (const [N, out, perRow, stored, residual] of [
    [1, 1, 2, "f32", undefined],
    [7, 65, 2, "f32", "f32"],
    [33, 100, 1, "f32", undefined],
    [65, 576, 1, "f32", "f32"],
    [7, 68, 2, "bfp16", "f32"],
    [33, 100, 1, "f32", "bfp16"],
    [65, 36, 2, "bfp16", "bfp16"],
  ] as const) {
    it(`equals its twin: N ${N}, out ${out}, ${stored}, residual ${residual}${perRow === 2 ? ", bias" : ""}`, async () => {
      const t = {
        ...read(N, out, { perRow, stored }),
        gradient: given("dm", [out]),
      };
      const call = callDoraBackward(
        "test",
        { ...t, ...(residual && { residual: given("r", [N, out], residual) }) },
        { N, out },
      );
      const magnitude = randomF32(out, 4).map((v) => 1 + Math.abs(v));
      if (out > 1) magnitude[out - 1] = 0;
      const data = {
        dy: randomF32(N * out, 1),
        y: packed(randomF32(N * out, 2), stored),
        residual: packed(randomF32(N * out, 3), residual ?? "f32"),
        scale_bias: randomF32(perRow * out, 5),
        magnitude,
        magnitude_gradient: randomF32(out, 6),
      };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
    });
  }

  for (const [N, heads, headDim, dtype, rank] of [
    [1, 1, 2, "f32", 0],
    [33, 3, 10, "f32", 0],
    [9, 5, 8, "f32", 6],
    [65, 3, 24, "bfp16", 0],
    [34, 2, 16, "bfp16", 4],
  ] as const) {
    it(`turns y back: N ${N}, ${heads} heads of ${headDim} in ${dtype}, rank ${rank}`, async () => {
      const [out, positions] = [heads * headDim, 50];
      const [bAt, mAt] = [0, out * rank];
      const elements = out * (rank + 1);
      const call = callDoraBackward(
        "test",
        {
          ...read(N, out, { perRow: 2, stored: dtype }),
          gradient:
            rank > 0
              ? { p: given("p", [N, rank]), gradient: given("g", [elements]), rank, bAt, mAt }
              : given("dm", [out]),
        },
        {
          N,
          out,
          turned: {
            table: given("table", [positions, headDim / 2, 2]),
            positions: given("positions", [N], "u32"),
            headDim,
            factor: 0.7,
          },
        },
      );
      const data = {
        dy: randomF32(N * out, 1),
        y: packed(randomF32(N * out, 2), dtype),
        scale_bias: randomF32(2 * out, 5),
        magnitude: randomF32(out, 4).map((v) => 1 + Math.abs(v)),
        ...(rank > 0
          ? { p: randomF32(N * rank, 8), gradient: randomF32(elements, 6) }
          : { magnitude_gradient: randomF32(out, 6) }),
        table: randomF32(positions * headDim, 7),
        positions: Uint32Array.from({ length: N }, (_, t) => (t * 7) % positions),
      };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
    });
  }

  for (const [N, out, rank, perRow, stored] of [
    [1, 1, 1, 1, "f32"],
    [7, 65, 3, 2, "f32"],
    [1, 8, 3, 1, "f32"],
    [3, 4, 2, 2, "bfp16"],
    [65, 100, 16, 1, "f32"],
    [65, 100, 16, 2, "bfp16"],
    [300, 20, 5, 1, "bfp16"],
  ] as const) {
    it(`has the gradient of B too: N ${N}, out ${out}, rank ${rank}, ${stored}`, async () => {
      const [bAt, mAt] = [64, 64 + Math.ceil((out * rank) / 64) * 64];
      const elements = mAt + out + 5;
      const call = callDoraBackward(
        "test",
        {
          ...read(N, out, { perRow, stored }),
          residual: given("r", [N, out], stored),
          gradient: { p: given("p", [N, rank]), gradient: given("g", [elements]), rank, bAt, mAt },
        },
        { N, out },
      );
      const data = {
        dy: randomF32(N * out, 1),
        y: packed(randomF32(N * out, 2), stored),
        residual: packed(randomF32(N * out, 3), stored),
        // B learns where m is 0, too.
        magnitude: randomF32(out, 4).map((v, j) => (j === 1 ? 0 : 1 + Math.abs(v))),
        scale_bias: randomF32(perRow * out, 5),
        gradient: randomF32(elements, 6),
        p: randomF32(N * rank, 7),
      };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
      // The same as the product by itself.
      const fused = runTwin(call, data)["gradient"]!;
      const alone = callLowrankGradient(
        "test",
        {
          wide: given("dy", [N, out]),
          narrow: given("p", [N, rank]),
          gradient: given("b", [out, rank]),
          scale_bias: given("sb", [out, perRow]),
        },
        { N, K: out, rank, layout: "columns" },
      );
      const b = data.gradient.subarray(bAt, bAt + out * rank);
      const { dy: wide, p: narrow, scale_bias } = data;
      const want = runTwin(alone, { wide, narrow, gradient: b, scale_bias })["gradient"]!;
      expectClose(fused.subarray(bAt, bAt + out * rank), want, 1e-6, "dB");
    });
  }

  it("on a software adapter has four columns a lane, where these are neighbours and are turned together", () => {
    const call = (out: number, headDim?: number) => {
      const t = {
        ...read(2, out),
        gradient: given("dm", [out]),
      };
      const positions = given("positions", [2], "u32");
      const turned = headDim && { table: given("table", [2, headDim / 2, 2]), positions, headDim, factor: 1 };
      return callDoraBackward("test", t, { N: 2, out, ...(turned && { turned }) });
    };
    const taken = (of: Call) =>
      of.kernel.variants.find((variant) => variant.accepts(of, { ...PORTABLE_TRAITS, isSoftware: true }))
        ?.name;
    expect([call(40), call(48, 24)].map(taken)).toEqual(["software", "software"]);
    expect([call(42), call(40, 20)].map(taken)).toEqual(["column", "column"]);
  });

  it("takes rounding for no gradient, where y and the residual differ by that alone", async () => {
    const [N, out] = [70, 40];
    const residual = randomF32(N * out, 1);
    // Columns beyond the first half are off by up to 300 steps instead of half of one.
    const y = residual.map((v, i) => v + (i % out < out / 2 ? 1e-5 : 3e-2) * Math.sin(i));
    const call = callDoraBackward(
      "test",
      {
        ...read(N, out, { stored: "bfp16" }),
        residual: given("r", [N, out], "bfp16"),
        gradient: given("dm", [out]),
      },
      { N, out },
    );
    const data = {
      dy: randomF32(N * out, 3),
      y: packed(y, "bfp16"),
      residual: packed(residual, "bfp16"),
      scale_bias: randomF32(out, 4),
      magnitude: new Float32Array(out).fill(1e-3),
      magnitude_gradient: new Float32Array(out),
    };
    await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
    const got = runTwin(call, data)["magnitude_gradient"]!;
    const zeros = (from: number, to: number): number => got.subarray(from, to).filter((v) => v === 0).length;
    expect(zeros(0, out / 2)).toBeGreaterThanOrEqual(out / 2 - 1);
    expect(zeros(out / 2, out)).toBe(0);
  });

  it("what it turns back is what RoPE has turned", () => {
    const [N, headDim, positions] = [3, 6, 4];
    const angles = Float64Array.from(randomF32((positions * headDim) / 2, 1));
    // A scaled table, as yarn has it.
    const table = Float64Array.from({ length: positions * headDim }, (_, i) =>
      i % 2 === 0 ? 1.3 * Math.cos(angles[i / 2]!) : 1.3 * Math.sin(angles[(i - 1) / 2]!),
    );
    const u = Float64Array.from(randomF32(N * headDim, 2));
    const at = Uint32Array.of(3, 0, 2);
    const [y, k] = [u.slice(), u.slice()];
    const where = { table: given("t", [positions, headDim / 2, 2]), positions: given("p", [N], "u32") };
    const rope = callRope(
      "test",
      { q: given("q", [N, headDim]), k: given("k", [N, headDim]), ...where },
      { N, heads: 1, kvHeads: 1, headDim, direction: 1 },
    );
    rope.kernel.twin({ q: y, k, table, positions: at }, rope);
    const t = {
      ...read(N, headDim),
      gradient: given("dm", [headDim]),
    };
    const call = callDoraBackward("test", t, {
      N,
      out: headDim,
      turned: { ...where, headDim, factor: 1 / 1.3 ** 2 },
    });
    const gradient = new Float64Array(headDim);
    const ones = (): Float64Array => new Float64Array(headDim).fill(1);
    const dy = Float64Array.from(randomF32(N * headDim, 3));
    call.kernel.twin(
      {
        dy,
        y,
        scale_bias: ones(),
        magnitude: ones(),
        magnitude_gradient: gradient,
        table,
        positions: at,
      },
      call,
    );
    const want = Float64Array.from({ length: headDim }, (_, j) =>
      [0, 1, 2].reduce((sum, row) => sum + dy[row * headDim + j]! * u[row * headDim + j]!, 0),
    );
    expectClose(gradient, want, 1e-12, "dm");
  });

  it("the magnitude's gradient is the derivative of y = m u / c + bias + residual", () => {
    const [N, out] = [3, 4];
    const [u, residual, dy] = [1, 2, 3].map((seed) => Float64Array.from(randomF32(N * out, seed))) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    const c = Float64Array.of(0.5, 1, 2, 3);
    const bias = Float64Array.of(0.1, -0.2, 0.3, 0);
    const m = Float64Array.of(1, -0.5, 2, 0.7);
    const forward = (magnitude: Float64Array): Float64Array =>
      u.map((v, i) => (magnitude[i % out]! * v) / c[i % out]! + bias[i % out]! + residual[i]!);
    const loss = (magnitude: Float64Array): number =>
      forward(magnitude).reduce((sum, v, i) => sum + v * dy[i]!, 0);
    const t = {
      ...read(N, out, { perRow: 2 }),
      gradient: given("dm", [out]),
      residual: given("r", [N, out]),
    };
    const call = callDoraBackward("test", t, { N, out });
    const gradient = new Float64Array(out);
    const scaleBias = Float64Array.from({ length: 2 * out }, (_, i) =>
      i % 2 === 0 ? m[i / 2]! / c[i / 2]! : bias[(i - 1) / 2]!,
    );
    call.kernel.twin(
      {
        dy,
        y: forward(m),
        residual,
        scale_bias: scaleBias,
        magnitude: m,
        magnitude_gradient: gradient,
      },
      call,
    );
    expectClose(gradient, finiteDifference(m, loss), 1e-8, "dm");
  });
});
