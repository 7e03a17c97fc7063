/** Norms, SwiGLU, RoPE and the embedding: forward against the twin, backward against finite differences of it. */
import { describe, expect, it } from "vitest";
import { f32ToBf16, f32ToF16 } from "../../src/formats/floats.js";
import { callAttentionDelta } from "../../src/kernels/attention.js";
import { callEmbeddingGather } from "../../src/kernels/embedding.js";
import { callRmsNormBackward, callRmsNormForward } from "../../src/kernels/rms_norm.js";
import { callAttentionStore, callRope } from "../../src/kernels/rope.js";
import type { Tensor } from "../../src/program/tensor.js";
import {
  compareWithTwin,
  dot,
  expectClose,
  finiteDifference,
  given,
  packed,
  randomF32,
  useGpu,
} from "./harness.js";

const context = useGpu();

/** A handful of f32 operations against f64. */
const TOLERANCE = 2e-6;
/** Central differences with step 1e-5 of functions near 1: truncation 1e-10, cancellation 1e-11. */
const DIFFERENCE = 1e-7;

describe("rms_norm_backward", () => {
  for (const [rows, D, residual] of [
    [1, 64, false],
    [7, 65, true],
    [65, 576, true],
    [3, 1, true],
  ] as const) {
    it(`equals its twin at [${rows}, ${D}]${residual ? " with residual" : ""}`, async () => {
      const t = {
        x: given("x", [rows, D]),
        weight: given("w", [D]),
        dy: given("dy", [rows, D]),
        dx: given("dx", [rows, D]),
      };
      const call = callRmsNormBackward(
        "test",
        { ...t, ...(residual && { residual: given("r", [rows, D]) }) },
        { rows, D, eps: 1e-5 },
      );
      const data = {
        x: randomF32(rows * D, 1),
        weight: randomF32(D, 2),
        dy: randomF32(rows * D, 3),
        residual: randomF32(rows * D, 4),
      };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
      const added = callRmsNormBackward("test", t, { rows, D, eps: 1e-5, accumulate: true });
      await compareWithTwin(context.gpu, added, {
        tolerance: TOLERANCE,
        data: { ...data, dx: randomF32(rows * D, 5) },
      });
    });
  }

  it.each(["bf16", "bfp16"] as const)("reads x as %s", async (dtype) => {
    for (const [rows, D] of dtype === "bf16"
      ? ([
          [7, 64],
          [3, 65],
          [70, 65],
        ] as const)
      : ([
          [7, 68],
          [70, 576],
        ] as const)) {
      const call = callRmsNormBackward(
        "test",
        {
          x: given("x", [rows, D], dtype),
          weight: given("w", [D]),
          dy: given("dy", [rows, D]),
          dx: given("dx", [rows, D]),
        },
        { rows, D, eps: 1e-5, accumulate: true },
      );
      const data = {
        x: packed(randomF32(rows * D, 1), dtype),
        weight: randomF32(D, 2),
        dy: randomF32(rows * D, 3),
        dx: randomF32(rows * D, 5),
      };
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
    }
  });

  it("is the derivative of forward", () => {
    const [rows, D, eps] = [2, 5, 1e-3];
    const x = Float64Array.from(randomF32(rows * D, 1));
    const weight = Float64Array.from(randomF32(D, 2));
    const dy = Float64Array.from(randomF32(rows * D, 3));
    const [tx, tw, ty] = [given("x", [rows, D]), given("w", [D]), given("y", [rows, D])];
    const forward = callRmsNormForward("test", { x: tx, weight: tw, y: ty }, { rows, D, eps });
    const backward = callRmsNormBackward(
      "test",
      { x: tx, weight: tw, dy: ty, dx: given("dx", [rows, D]) },
      { rows, D, eps },
    );
    const loss = (values: Float64Array): number => {
      const y = new Float64Array(rows * D);
      forward.kernel.twin({ x: values, weight, y }, forward);
      return dot(y, dy);
    };
    const dx = new Float64Array(rows * D);
    backward.kernel.twin({ x, weight, dy, dx }, backward);
    expectClose(dx, finiteDifference(x, loss), DIFFERENCE, "dx");
  });
});

/** cos and sin of a table of as many positions. */
const turns = (positions: number, headDim: number): Float32Array =>
  Float32Array.from({ length: positions * headDim }, (_, i) => {
    const angle = Math.floor(i / headDim) / 10 ** (Math.floor((i % headDim) / 2) / 2);
    return i % 2 === 0 ? Math.cos(angle) : Math.sin(angle);
  });

describe("rope", () => {
  const [positions, headDim] = [40, 10];
  const table = turns(positions, headDim);
  const call = (N: number, heads: number, kvHeads: number, direction: 1 | -1) =>
    callRope(
      "test",
      {
        q: given("q", [N, heads * headDim]),
        k: given("k", [N, kvHeads * headDim]),
        table: given("table", [positions, headDim / 2, 2]),
        positions: given("positions", [N], "u32"),
      },
      { N, heads, kvHeads, headDim, direction },
    );

  for (const [N, heads, kvHeads, direction] of [
    [1, 1, 1, 1],
    [33, 3, 1, 1],
    [7, 4, 2, -1],
  ] as const) {
    it(`equals its twin: N ${N}, heads ${heads} and ${kvHeads}, direction ${direction}`, async () => {
      const data = {
        table,
        q: randomF32(N * heads * headDim, 1),
        k: randomF32(N * kvHeads * headDim, 2),
        positions: Uint32Array.from({ length: N }, (_, t) => (t * 7) % positions),
      };
      await compareWithTwin(context.gpu, call(N, heads, kvHeads, direction), { tolerance: TOLERANCE, data });
    });
  }

  it("turning back undoes it and is its gradient", () => {
    const [N, heads] = [3, 2];
    const at = Uint32Array.of(0, 5, 39);
    const start = Float64Array.from(randomF32(N * heads * headDim, 1));
    const weights = Float64Array.from(randomF32(N * heads * headDim, 2));
    const turn = (values: Float64Array, direction: 1 | -1): Float64Array => {
      const [q, k] = [values.slice(), values.slice()];
      const c = call(N, heads, heads, direction);
      c.kernel.twin({ q, k, table, positions: at }, c);
      expect(k).toEqual(q);
      return q;
    };
    expectClose(turn(turn(start, 1), -1), start, 1e-6, "there and back");
    expectClose(
      turn(weights, -1),
      finiteDifference(start, (x) => dot(turn(x, 1), weights)),
      DIFFERENCE,
      "gradient",
    );
  });
});

describe("attention_delta", () => {
  it.each([
    [7, 3, 12],
    [65, 4, 16],
  ])("packs d_o besides: N %i, %i heads of %i", async (N, heads, headDim) => {
    const wide = (name: string) => given(name, [N, heads * headDim]);
    const call = callAttentionDelta(
      "test",
      {
        o: wide("o"),
        d_o: wide("d_o"),
        lse: given("lse", [N, heads]),
        statistics: given("statistics", [N, heads, 2]),
        d_o_stored: given("stored", [N, heads * headDim], "bfp16"),
      },
      { N, heads, headDim },
    );
    const data = {
      o: randomF32(N * heads * headDim, 1),
      d_o: randomF32(N * heads * headDim, 2),
      lse: randomF32(N * heads, 3),
    };
    await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
  });
});

describe("attention_store", () => {
  for (const [N, heads, kvHeads, headDim] of [
    [1, 1, 1, 8],
    [33, 3, 1, 24],
    [65, 4, 2, 16],
  ] as const) {
    it(`equals its twin: N ${N}, heads ${heads} and ${kvHeads} of ${headDim}`, async () => {
      const positions = 40;
      const [Q, KV] = [heads * headDim, kvHeads * headDim];
      const call = callAttentionStore(
        "test",
        {
          q: given("q", [N, Q]),
          k: given("k", [N, KV]),
          v: given("v", [N, KV]),
          q_stored: given("q_stored", [N, Q], "bfp16"),
          k_stored: given("k_stored", [N, KV], "bfp16"),
          v_stored: given("v_stored", [N, KV], "bfp16"),
          table: given("table", [positions, headDim / 2, 2]),
          positions: given("positions", [N], "u32"),
        },
        { N, heads, kvHeads, headDim },
      );
      const data = {
        table: turns(positions, headDim),
        q: randomF32(N * Q, 1),
        k: randomF32(N * KV, 2),
        v: randomF32(N * KV, 3),
        positions: Uint32Array.from({ length: N }, (_, t) => (t * 7) % positions),
      };
      // The last bit of f32 may decide where 14 bits round to.
      await compareWithTwin(context.gpu, call, { tolerance: 2 ** -13, data });
    });
  }

  it("refuses heads that are not whole pairs of blocks", () => {
    const t = Object.fromEntries(
      ["q", "k", "v", "q_stored", "k_stored", "v_stored"].map((name) => [
        name,
        given(name, [1, 12], "bfp16"),
      ]),
    ) as Record<"q" | "k" | "v" | "q_stored" | "k_stored" | "v_stored", Tensor>;
    const turning = { table: given("table", [1, 6, 2]), positions: given("positions", [1], "u32") };
    expect(() =>
      callAttentionStore("test", { ...t, ...turning }, { N: 1, heads: 1, kvHeads: 1, headDim: 12 }),
    ).toThrow(/heads of 12/);
  });
});

describe("embedding_gather", () => {
  const [rows, D] = [70, 6];
  const values = randomF32(rows * D, 1);
  const tokens = Uint32Array.of(69, 0, 1, 64, 63, 7, 68);

  for (const [format, stored] of [
    ["f32", values],
    ["bf16", f32ToBf16(values)],
    ["f16", f32ToF16(values)],
  ] as const) {
    it(`gathers ${format} rows, also from a table in two parts`, async () => {
      const x = given("x", [8, D]);
      const part = (name: string, first: number, out: number) => ({
        firstRow: first,
        weight: { format, out, in: D, values: given(name, [out, D], format) },
      });
      for (const { firstRow, weight } of [
        part("all", 0, rows),
        part("low", 0, 64),
        part("high", 64, rows - 64),
      ]) {
        const call = callEmbeddingGather(
          "test",
          { table: weight, tokens: given("tokens", [8], "u32"), x },
          { N: tokens.length, D, firstRow, add: firstRow > 0 },
        );
        const data = {
          values: stored.subarray(firstRow * D, (firstRow + weight.out) * D),
          tokens,
          x: randomF32(8 * D, 3),
        };
        await compareWithTwin(context.gpu, call, { tolerance: 0, data });
      }
    });
  }

  it("leaves rows of other parts alone with add, zeroes them without", () => {
    const weight = { format: "f32", out: 64, in: 1, values: given("values", [64, 1]) } as const;
    const run = (add: boolean): Float64Array => {
      const call = callEmbeddingGather(
        "test",
        { table: weight, tokens: given("tokens", [2], "u32"), x: given("x", [2, 1]) },
        { N: 2, D: 1, firstRow: 64, add },
      );
      const x = Float64Array.of(5, 6);
      call.kernel.twin({ values: new Float64Array(64).fill(1), tokens: Uint32Array.of(3, 70), x }, call);
      return x;
    };
    expect(run(true)).toEqual(Float64Array.of(5, 1));
    expect(run(false)).toEqual(Float64Array.of(0, 1));
  });
});
