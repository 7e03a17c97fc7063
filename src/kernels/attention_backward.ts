/**
 * Attention backward in three kernels: delta = rowsum(o d_o), then d_q by query blocks and d_k, d_v by key blocks.
 * Probabilities are computed again from the log-sum-exp: p = exp(scale q k - lse), ds = p (d_o v - delta) scale.
 */
import { grid1d, option, size, type Access, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { attentionOptions, visiblePairs } from "./attention_forward.js";
import { matrixAttentionVariant } from "./attention_matrix.js";
import { groupedQueries, readableHeads, softwareAttention } from "./attention_software.js";
import { attentionTile, TILE } from "./attention_tile.js";
import { attentionBackwardKvTwin, attentionBackwardQTwin, attentionDeltaTwin } from "./attention_twin.js";

const DELTA_LANES = 64;

export const attentionDelta: Kernel = {
  name: "attention_delta",
  bindings: { o: "read", d_o: "read", lse: "read", statistics: "write", d_o_stored: "write" },
  variants: [
    {
      name: "lane",
      file: "attention_delta.wgsl",
      accepts: () => true,
      defines: (call) => ({ ...call.options, LANES: DELTA_LANES }),
      grid: (call) => grid1d(Math.ceil((size(call, "N") * option(call, "HEADS")) / DELTA_LANES)),
    },
  ],
  twin: attentionDeltaTwin,
  cost(call) {
    const elements = size(call, "N") * option(call, "HEADS") * option(call, "HEAD_DIM");
    return { flops: 2 * elements, bytes: 8 * elements };
  },
};

const INPUTS: Readonly<Record<string, Access>> = {
  q: "read",
  k: "read",
  v: "read",
  d_o: "read",
  statistics: "read",
  spans: "read",
};

/** Bytes of q, d_o, k and v, and of what is written. */
function backwardBytes(call: Call, queryTensors: number, kvTensors: number): number {
  const [heads, kvHeads] = [option(call, "HEADS"), option(call, "KV_HEADS")];
  return 4 * size(call, "N") * option(call, "HEAD_DIM") * (queryTensors * heads + kvTensors * kvHeads);
}

export const attentionBackwardQ: Kernel = {
  name: "attention_backward_q",
  bindings: { ...INPUTS, d_q: "write" },
  variants: [
    softwareAttention("attention_backward_q_software.wgsl", groupedQueries, { BACKWARD: true }),
    matrixAttentionVariant("attention_backward_q_matrix.wgsl", { owns: 2, results: 1 }, (call) =>
      option(call, "HEADS"),
    ),
    {
      name: "tile",
      file: "attention_backward_q_tile.wgsl",
      accepts: readableHeads,
      defines: (call, traits) => ({
        ...call.options,
        BACKWARD: true,
        ...attentionTile(call, traits, 1, true),
      }),
      grid: (call) => grid1d(Math.ceil(size(call, "N") / TILE) * option(call, "HEADS")),
    },
  ],
  twin: attentionBackwardQTwin,
  cost: (call) => ({
    flops: 6 * option(call, "HEAD_DIM") * visiblePairs(call, size(call, "queryRow")),
    bytes: backwardBytes(call, 3, 2),
  }),
};

export const attentionBackwardKv: Kernel = {
  name: "attention_backward_kv",
  bindings: { ...INPUTS, d_k: "write", d_v: "write" },
  variants: [
    softwareAttention("attention_backward_kv_software.wgsl", (call) => size(call, "N"), { BACKWARD: true }),
    matrixAttentionVariant("attention_backward_kv_matrix.wgsl", { owns: 2, results: 2 }, (call) =>
      option(call, "KV_HEADS"),
    ),
    {
      name: "tile",
      file: "attention_backward_kv_tile.wgsl",
      accepts: readableHeads,
      defines: (call, traits) => ({
        ...call.options,
        BACKWARD: true,
        ...attentionTile(call, traits, 2, true),
      }),
      grid: (call) => grid1d(Math.ceil(size(call, "N") / TILE) * option(call, "KV_HEADS")),
    },
  ],
  twin: attentionBackwardKvTwin,
  cost: (call) => ({
    flops: 8 * option(call, "HEAD_DIM") * visiblePairs(call, 0),
    bytes: backwardBytes(call, 2, 4),
  }),
};

/**
 * What backward needs of each row of scores: lse, and delta[t, h] = sum_d o[t, h, d] d_o[t, h, d].
 * @param t.o [N, heads * headDim] f32; t.d_o like it
 * @param t.lse [N, heads] f32 of forward
 * @param t.statistics [N, heads, 2] f32 lse and delta, overwritten
 * @param t.d_o_stored bfp16 of d_o's shape (headDim a multiple of 4), overwritten: d_o packed, where attention reads that
 */
export function callAttentionDelta(
  label: string,
  t: {
    readonly o: Tensor;
    readonly d_o: Tensor;
    readonly lse: Tensor;
    readonly statistics: Tensor;
    readonly d_o_stored?: Tensor;
  },
  s: { readonly N: number; readonly heads: number; readonly headDim: number },
): Call {
  return {
    kernel: attentionDelta,
    label,
    tensors: { ...t },
    sizes: { N: s.N },
    options: { HEADS: s.heads, HEAD_DIM: s.headDim, STORE: t.d_o_stored !== undefined },
  };
}

interface BackwardInputs {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly d_o: Tensor;
  readonly statistics: Tensor;
  readonly spans: Tensor;
}

interface BackwardSizes {
  readonly N: number;
  /** Stream row of the first query, default 0. */
  readonly queryRow?: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly window: number;
  /** Whether inputs, probabilities and gradients of scores may be rounded to f16 (sums stay f32). */
  readonly half?: boolean;
}

function backwardCall(
  kernel: Kernel,
  label: string,
  tensors: Readonly<Record<string, Tensor>>,
  s: BackwardSizes,
): Call {
  return {
    kernel,
    label,
    tensors,
    sizes: { N: s.N, queryRow: s.queryRow ?? 0, scale: s.scale, window: s.window, headDim: s.headDim },
    options: attentionOptions(s, tensors["k"]),
  };
}

/**
 * Gradient of the queries; inputs as in forward: N queries that start at stream row `queryRow`, keys from row 0 on.
 * @param t.d_o [N, heads * headDim], f32 or bfp16 as q, k and v
 * @param t.statistics [N, heads, 2] f32 of `callAttentionDelta`
 * @param t.d_q [N, heads * headDim] f32, overwritten
 */
export const callAttentionBackwardQ = (
  label: string,
  t: BackwardInputs & { readonly d_q: Tensor },
  s: BackwardSizes,
): Call => backwardCall(attentionBackwardQ, label, { ...t }, s);

/**
 * Gradients of keys and values, summed over the query heads that share them; all N queries and keys of the stream.
 * @param t.d_k [N, kvHeads * headDim] f32, overwritten; t.d_v like it
 */
export const callAttentionBackwardKv = (
  label: string,
  t: BackwardInputs & { readonly d_k: Tensor; readonly d_v: Tensor },
  s: BackwardSizes,
): Call => backwardCall(attentionBackwardKv, label, { ...t }, s);
