/** Cases of attention: calls of its four kernels with their data. */
import { packBlocks, unpackBlocks } from "../../src/quant/block_float.js";
import {
  callAttentionBackwardKv,
  callAttentionBackwardQ,
  callAttentionDelta,
  callAttentionForward,
} from "../../src/kernels/attention.js";
import type { Call, NumberArray } from "../../src/program/kernel.js";
import type { DType } from "../../src/program/tensor.js";
import { given, randomF32 } from "./harness.js";

export interface Case {
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
  /** Whether f16 is allowed. */
  readonly half?: boolean;
}

/** Heads and the head's length are built into a shader: cases share them where that costs nothing, since each takes seconds to compile. */
export const CASES: readonly Case[] = [
  { lengths: [1], heads: 1, kvHeads: 1, headDim: 64, window: 0 },
  { lengths: [3, 1, 3], heads: 3, kvHeads: 1, headDim: 2, window: 0 },
  { lengths: [7], heads: 3, kvHeads: 1, headDim: 80, window: 5 },
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
export const CACHED: readonly Case[] = [
  { lengths: [200], heads: 9, kvHeads: 3, headDim: 64, window: 0, queryRow: 199, spare: 13 },
  { lengths: [70], heads: 3, kvHeads: 1, headDim: 80, window: 5, queryRow: 69, spare: 3 },
  { lengths: [300], heads: 4, kvHeads: 1, headDim: 6, window: 0, queryRow: 299 },
  { lengths: [150], heads: 2, kvHeads: 1, headDim: 256, window: 130, queryRow: 147, spare: 5 },
  { lengths: [70], heads: 3, kvHeads: 1, headDim: 64, window: 0, queryRow: 37, spare: 20 },
  { lengths: [90], heads: 6, kvHeads: 2, headDim: 32, window: 5, queryRow: 80, spare: 1 },
  { lengths: [70, 30], heads: 4, kvHeads: 2, headDim: 64, window: 0, queryRow: 64, stored: "bfp16" },
];

export const describeCase = (c: Case): string => {
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
export function inputs(c: Case): {
  readonly data: Data;
  readonly calls: readonly [Call, Call, Call, Call];
  readonly rows: number;
  readonly N: number;
} {
  const { heads, kvHeads, headDim: D, window, spare = 0, queryRow = 0, half = false } = c;
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
  const s = { N, heads, kvHeads, headDim: D, scale: 1 / Math.sqrt(D), window, half };
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
export function uploaded(c: Case, data: Data): Record<string, ArrayBufferView> {
  if (c.stored !== "bfp16") return data;
  const packed = STORED.map((name) => [name, packBlocks(data[name] as Float32Array)] as const);
  return { ...data, ...Object.fromEntries(packed) };
}

export const runTwins = (calls: readonly Call[], memory: Record<string, NumberArray>): void => {
  for (const call of calls) call.kernel.twin(memory, call);
};
