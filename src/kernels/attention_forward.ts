/** Attention forward: o = softmax(scale q kT) v over the keys that a query sees, and the log-sum-exp that backward needs. */
import { grid1d, option, size, type Call, type Defines, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { matrixAttentionVariant } from "./attention_matrix.js";
import { groupedQueries, readableHeads, softwareAttention } from "./attention_software.js";
import { attentionTile, TILE } from "./attention_tile.js";
import { attentionForwardTwin } from "./attention_twin.js";

/** Pairs of query and key if the whole stream were one sequence: an upper bound. */
export function visiblePairs(call: Call, queryRow: number): number {
  const [N, window] = [size(call, "N"), size(call, "window")];
  let pairs = 0;
  for (let row = queryRow; row < queryRow + N; row++)
    pairs += window > 0 ? Math.min(window, row + 1) : row + 1;
  return pairs * option(call, "HEADS");
}

/**
 * Generation: few queries over a long cache. Variants with queries on lanes took 4 and 20 times as long there
 * (lavapipe, one query, 1000 keys).
 */
const isShort = (call: Call): boolean => size(call, "N") <= 4;

/** Most heads of one kv head, up to four, that divide its group. */
function packedHeads(call: Call): number {
  const group = option(call, "HEADS") / option(call, "KV_HEADS");
  return [4, 3, 2].find((heads) => group % heads === 0) ?? 1;
}

const software = softwareAttention("attention_forward_software.wgsl", groupedQueries);
const matrix = matrixAttentionVariant("attention_forward_matrix.wgsl", { owns: 1, results: 1 }, (call) =>
  option(call, "HEADS"),
);

export const attentionForward: Kernel = {
  name: "attention_forward",
  bindings: { q: "read", k: "read", v: "read", spans: "read", o: "write", lse: "write" },
  variants: [
    {
      name: "query",
      file: "attention_forward_query.wgsl",
      accepts: (call) => isShort(call) && readableHeads(call),
      defines: (call, traits) => ({
        ...call.options,
        // A software adapter loads slowly and shares what it loaded among heads; a real one wants many workgroups.
        PACK: traits.isSoftware ? packedHeads(call) : 1,
        LANES: traits.isSoftware ? 64 : 256,
        KEYS_PER_LANE: traits.isSoftware ? 4 : 1,
      }),
      grid: (call, d) => grid1d((size(call, "N") * option(call, "HEADS")) / Number(d["PACK"])),
    },
    { ...software, accepts: (call, traits) => !isShort(call) && software.accepts(call, traits) },
    { ...matrix, accepts: (call, traits) => !isShort(call) && matrix.accepts(call, traits) },
    {
      name: "tile",
      file: "attention_forward_tile.wgsl",
      accepts: (call) => !isShort(call) && readableHeads(call),
      defines: (call, traits) => ({ ...call.options, ...attentionTile(call, traits, 1, false) }),
      grid: (call) => grid1d(Math.ceil(size(call, "N") / TILE) * option(call, "HEADS")),
    },
  ],
  twin: attentionForwardTwin,
  cost(call) {
    const [N, row, D] = [size(call, "N"), size(call, "queryRow"), option(call, "HEAD_DIM")];
    const [heads, kvHeads] = [option(call, "HEADS"), option(call, "KV_HEADS")];
    return {
      flops: 4 * D * visiblePairs(call, row),
      bytes: 4 * (N * heads * (2 * D + 1) + 2 * (row + N) * kvHeads * D),
    };
  },
};

/**
 * Query t sits at stream row queryRow + t and sees the keys j of its sequence with j <= queryRow + t, with a window only
 * the last `window` of them. Query head h reads key and value head floor(h / (heads / kvHeads)).
 * @param t.q [N, heads * headDim] f32, or q, k and v all bfp16 (headDim a multiple of 4)
 * @param t.k [rows, kvHeads * headDim], rows >= queryRow + N; t.v like it
 * @param t.spans [rows, 2] u32: start and end (exclusive) of the sequence of each stream row
 * @param t.o [N, heads * headDim] f32, overwritten
 * @param t.lse [N, heads] f32, overwritten: natural log of the sum of exp(scale * score)
 * @param s.queryRow stream row of the first query: 0 in training, the tokens already cached in generation
 * @param s.window 0: no window
 * @param s.half whether q, k, v and probabilities may be rounded to f16 (sums and the softmax stay f32)
 */
export function callAttentionForward(
  label: string,
  t: {
    readonly q: Tensor;
    readonly k: Tensor;
    readonly v: Tensor;
    readonly spans: Tensor;
    readonly o: Tensor;
    readonly lse: Tensor;
  },
  s: {
    readonly N: number;
    readonly queryRow: number;
    readonly heads: number;
    readonly kvHeads: number;
    readonly headDim: number;
    readonly scale: number;
    readonly window: number;
    readonly half?: boolean;
  },
): Call {
  const { heads: _heads, kvHeads: _kvHeads, half: _half, ...sizes } = s;
  return {
    kernel: attentionForward,
    label,
    tensors: { ...t },
    sizes,
    options: attentionOptions(s, t.k),
  };
}

/** What attention kernels are specialised for: heads, whether q, k and v are f32 or bfp16, and whether they may become f16. */
export function attentionOptions(
  s: {
    readonly heads: number;
    readonly kvHeads: number;
    readonly headDim: number;
    readonly half?: boolean;
  },
  k: Tensor | undefined,
): Defines {
  return {
    HEADS: s.heads,
    KV_HEADS: s.kvHeads,
    HEAD_DIM: s.headDim,
    BLOCKS: k?.dtype === "bfp16",
    ...(s.half && { HALF: true }),
  };
}
