import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { Pipelines } from "../../src/gpu/pipelines.js";
import {
  callAttentionBackwardKv,
  callAttentionBackwardQ,
  callAttentionDelta,
  callAttentionForward,
} from "../../src/kernels/attention.js";
import type { Call, NumberArray } from "../../src/program/kernel.js";
import { packBlocks, unpackBlocks } from "../../src/quant/block_float.js";
import type { DType } from "../../src/program/tensor.js";
import { compareWithTwin, expectClose, finiteDifference, given, randomF32, useGpu } from "./harness.js";

const context = useGpu();

/** f32 dot products, exponentials of errors of some ulp, sums of up to 130 terms against f64; 1.5e-6 was seen (d_q, d_k), 5e-7 in o. */
const TOLERANCE = 4e-6;

interface Case {
  /** Lengths of the packed sequences; N is their sum less the rows already cached. */
  readonly lengths: readonly number[];
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly window: number;
  readonly queryRow?: number;
  /** Rows of q and the caches past those that are used. */
  readonly spare?: number;
  /** How q, k and v are stored. */
  readonly stored?: "bfp16";
}

const CASES: readonly Case[] = [
  { lengths: [1], heads: 1, kvHeads: 1, headDim: 64, window: 0 },
  { lengths: [3, 1, 3], heads: 3, kvHeads: 1, headDim: 2, window: 0 },
  { lengths: [7], heads: 2, kvHeads: 2, headDim: 80, window: 5 },
  { lengths: [33], heads: 3, kvHeads: 1, headDim: 64, window: 0 },
  { lengths: [1, 20, 1, 1, 10], heads: 6, kvHeads: 2, headDim: 32, window: 5, spare: 9 },
  { lengths: [65], heads: 4, kvHeads: 2, headDim: 6, window: 0 },
  { lengths: [40, 25], heads: 3, kvHeads: 3, headDim: 128, window: 0 },
  { lengths: [9, 2, 54], heads: 3, kvHeads: 1, headDim: 80, window: 5, spare: 3 },
  { lengths: [130], heads: 9, kvHeads: 3, headDim: 64, window: 0 },
  { lengths: [100, 1, 29], heads: 3, kvHeads: 1, headDim: 64, window: 5 },
  { lengths: [33, 7], heads: 2, kvHeads: 1, headDim: 256, window: 0 },
  { lengths: [7, 1, 25], heads: 4, kvHeads: 2, headDim: 64, window: 0, stored: "bfp16" },
  { lengths: [40], heads: 2, kvHeads: 1, headDim: 80, window: 5, spare: 3, stored: "bfp16" },
];

/** Queries behind a filled cache that is longer than what is used. */
const CACHED: readonly Case[] = [
  { lengths: [200], heads: 9, kvHeads: 3, headDim: 64, window: 0, queryRow: 199, spare: 13 },
  { lengths: [70], heads: 2, kvHeads: 2, headDim: 80, window: 5, queryRow: 69, spare: 3 },
  { lengths: [300], heads: 4, kvHeads: 1, headDim: 6, window: 0, queryRow: 299 },
  { lengths: [150], heads: 3, kvHeads: 1, headDim: 256, window: 130, queryRow: 147, spare: 5 },
  { lengths: [70], heads: 3, kvHeads: 1, headDim: 64, window: 0, queryRow: 37, spare: 20 },
  { lengths: [90], heads: 2, kvHeads: 1, headDim: 32, window: 5, queryRow: 80, spare: 1 },
  { lengths: [70, 30], heads: 4, kvHeads: 2, headDim: 64, window: 0, queryRow: 64, stored: "bfp16" },
];

const describeCase = (c: Case): string => {
  const { lengths, ...rest } = c;
  return `[${lengths.join()}]${Object.entries(rest)
    .map(([k, v]) => `, ${k} ${v}`)
    .join("")}`;
};

function spansOf(lengths: readonly number[], spare: number): Uint32Array {
  const spans: number[] = [];
  let start = 0;
  for (const length of lengths) {
    for (let i = 0; i < length; i++) spans.push(start, start + length);
    start += length;
  }
  for (let i = 0; i < spare; i++) spans.push(0, 0);
  return Uint32Array.from(spans);
}

/** What bfp16 cases store packed. Delta reads the gradient in f32. */
const STORED = ["q", "k", "v", "d_o"];

type Data = Record<string, Float32Array | Float64Array | Uint32Array>;

/** Everything that the four kernels bind, with outputs of forward as its twin gives them. */
function inputs(c: Case): {
  readonly data: Data;
  readonly calls: readonly [Call, Call, Call, Call];
  readonly rows: number;
  readonly N: number;
} {
  const { heads, kvHeads, headDim: D, window, spare = 0, queryRow = 0 } = c;
  const used = c.lengths.reduce((a, b) => a + b);
  const [N, rows] = [used - queryRow, used + spare];
  const capacity = N + spare;
  const data: Data = {
    q: randomF32(capacity * heads * D, 1),
    k: randomF32(rows * kvHeads * D, 2),
    v: randomF32(rows * kvHeads * D, 3),
    d_o: randomF32(capacity * heads * D, 4),
    spans: spansOf(c.lengths, spare),
    o: randomF32(capacity * heads * D, 5),
    lse: randomF32(capacity * heads, 6),
    statistics: randomF32(2 * capacity * heads, 7),
    d_q: randomF32(capacity * heads * D, 8),
    d_k: randomF32(rows * kvHeads * D, 9),
    d_v: randomF32(rows * kvHeads * D, 10),
  };
  const { stored = "f32" } = c;
  if (stored === "bfp16")
    for (const name of STORED) data[name] = unpackBlocks(packBlocks(data[name] as Float32Array));
  const wide = (name: string, dtype: DType = "f32") => given(name, [capacity, heads * D], dtype);
  const narrow = (name: string, dtype: DType = "f32") => given(name, [rows, kvHeads * D], dtype);
  const [q, k, v] = [wide("q", stored), narrow("k", stored), narrow("v", stored)];
  const [o, d_o] = [wide("o"), wide("d_o", stored)];
  const [lse, statistics, spans] = [
    given("lse", [capacity, heads]),
    given("statistics", [capacity, heads, 2]),
    given("spans", [rows, 2], "u32"),
  ];
  const s = { N, heads, kvHeads, headDim: D, scale: 1 / Math.sqrt(D), window };
  const shared = { q, k, v, d_o, statistics, spans };
  return {
    data,
    rows,
    N,
    calls: [
      callAttentionForward("test", { q, k, v, spans, o, lse }, { ...s, queryRow }),
      callAttentionDelta("test", { o, d_o: wide("d_o"), lse, statistics }, s),
      callAttentionBackwardQ("test", { ...shared, d_q: wide("d_q") }, { ...s, queryRow }),
      callAttentionBackwardKv("test", { ...shared, d_k: narrow("d_k"), d_v: narrow("d_v") }, s),
    ],
  };
}

/** The data as it is uploaded. */
function uploaded(c: Case, data: Data): Record<string, ArrayBufferView> {
  if (c.stored !== "bfp16") return data;
  const packed = STORED.map((name) => [name, packBlocks(data[name] as Float32Array)] as const);
  return { ...data, ...Object.fromEntries(packed) };
}

const runTwins = (calls: readonly Call[], memory: Record<string, NumberArray>): void => {
  for (const call of calls) call.kernel.twin(memory, call);
};

describe("attention", () => {
  for (const c of CASES) {
    it(`equals its twins: ${describeCase(c)}`, async () => {
      const { data, calls } = inputs(c);
      const compare = (call: Call) =>
        compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data: uploaded(c, data) });
      await compare(calls[0]);
      await compareWithTwin(context.gpu, calls[1], { tolerance: TOLERANCE, data });
      // A delta that is not o d_o: with the true one a single key has no gradient to compare with.
      runTwins(calls.slice(0, 1), data);
      for (const [i, lse] of data["lse"]!.entries()) data["statistics"]![2 * i] = lse;
      await compare(calls[2]);
      await compare(calls[3]);
    });
  }
  for (const c of CACHED) {
    it(`equals its twin behind a cache: ${describeCase(c)}`, async () => {
      const { data, calls } = inputs(c);
      await compareWithTwin(context.gpu, calls[0], { tolerance: TOLERANCE, data: uploaded(c, data) });
      // Queries of a chunk in the middle of a stream, backward.
      runTwins(calls.slice(0, 1), data);
      for (const [i, lse] of data["lse"]!.entries()) data["statistics"]![2 * i] = lse;
      await compareWithTwin(context.gpu, calls[2], { tolerance: TOLERANCE, data: uploaded(c, data) });
    });
  }
  it("does not overflow where scores are far apart", async () => {
    const { data, calls } = inputs({ lengths: [40], heads: 1, kvHeads: 1, headDim: 64, window: 0 });
    // Scores of some hundreds: exponentials of differences only. An error of 2^-24 of a score of 500 can be 3e-5 of its exponential; 2e-7 was seen.
    await compareWithTwin(context.gpu, calls[0], {
      tolerance: 3e-5,
      data: { ...data, q: randomF32(40 * 64, 1, 60) },
    });
  });
});

describe("the twins of attention", () => {
  for (const window of [0, 3]) {
    it(`have the gradients of finite differences, window ${window}`, () => {
      const c = { lengths: [4, 1, 3], heads: 4, kvHeads: 2, headDim: 4, window };
      const { data, calls } = inputs(c);
      const memory = Object.fromEntries(
        Object.entries(data).map(([name, a]) => [name, name === "spans" ? a : Float64Array.from(a)]),
      );
      runTwins(calls, memory);
      for (const name of ["q", "k", "v"]) {
        const gradient = finiteDifference(Float64Array.from(data[name]!), (x) => {
          const again = {
            ...memory,
            [name]: x,
            o: new Float64Array(memory["o"]!.length),
            lse: new Float64Array(memory["lse"]!.length),
          };
          runTwins(calls.slice(0, 1), again);
          return again.o.reduce((sum, o, i) => sum + o * memory["d_o"]![i]!, 0);
        });
        // Steps of 1e-5 in f64: 1e-10 from the third derivative, 1e-11 from rounding.
        expectClose(memory[`d_${name}`]!, gradient, 1e-8, `d_${name}`);
      }
    });
  }
  it("gives a sequence of one token its own value", () => {
    const { data, calls } = inputs({ lengths: [2, 1], heads: 1, kvHeads: 1, headDim: 4, window: 0 });
    runTwins(calls.slice(0, 1), data);
    expect(data["o"]!.slice(8, 12)).toEqual(data["v"]!.slice(8, 12));
  });
});

describe("attention on the null backend", () => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await openGpu({ backend: "null" });
  });
  afterAll(async () => {
    await gpu.destroy();
  });
  for (const c of [...CASES, ...CACHED]) {
    it(`compiles: ${describeCase(c)}`, async () => {
      const pipelines = new Pipelines(gpu);
      for (const call of inputs(c).calls) {
        for (const variant of call.kernel.variants) {
          if (variant.accepts(call, gpu.traits))
            await pipelines.get(variant.file, variant.defines(call, gpu.traits));
        }
      }
      gpu.check();
    });
  }
});
