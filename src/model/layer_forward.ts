/** Forward of one decoder layer as program fragments, and the parts of it that run again before backward. */
import { callAttentionForward } from "../kernels/attention.js";
import { callConvertRows } from "../kernels/convert_rows.js";
import { callRmsNormForward } from "../kernels/rms_norm.js";
import { callSwigluForward } from "../kernels/swiglu.js";
import type { Call } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { attentionSizes, LayerWalk, widths, type Kept } from "./layer.js";
import { chunkRows, type Chunk, type StreamContext } from "./stream.js";
import type { LayerTensors } from "./tensors.js";

/** The rows of a layer's input in f32, and the calls that make them. */
export type InputRows = (chunk: Chunk) => readonly [Tensor, readonly Call[]];

/**
 * Forward of a layer, x -> next.
 * @param x f32 [capacity, D] the layer's input
 * @param next f32 [capacity, D] its output; may be x itself
 */
export function layerForward(
  ctx: StreamContext,
  w: LayerTensors,
  x: Tensor,
  next: Tensor,
  kept: Kept,
): readonly Call[] {
  const walk = new LayerWalk(ctx, w, "forward", kept);
  attentionInputs(walk, (c) => [chunkRows(x, c), []]);
  walk.chunks((c) => {
    const { mid, act } = lowerHalf(walk, chunkRows(x, c), c);
    walk.calls.push(walk.product("down_proj", act, chunkRows(next, c), c, mid));
  });
  return walk.calls;
}

/** The layer's input, normed. `use` tells apart places that compute it anew. */
export function inputNorm(walk: LayerWalk, x: Tensor, c: Chunk, use: string): Tensor {
  const { arch } = walk.ctx;
  const h = walk.kept("h") ? walk.rows("h", arch.hidden, c) : walk.work(`h ${use}`, arch.hidden, c);
  const sizes = { rows: c.N, D: arch.hidden, eps: arch.normEps };
  const call = callRmsNormForward(`${walk.label} input norm`, { x, weight: walk.w.inputNorm, y: h }, sizes);
  walk.make("h", call);
  return h;
}

/** q, k and v of all chunks: what attention reads. */
export function attentionInputs(walk: LayerWalk, input: InputRows): void {
  const { arch, storage } = walk.ctx;
  const [, , Q, KV] = widths(walk.ctx);
  walk.chunks((c) => {
    const [x, calls] = input(c);
    walk.calls.push(...calls);
    const h = inputNorm(walk, x, c, walk.pass);
    turned(walk, "q", h, Q, arch.heads, walk.w.qNorm, c);
    turned(walk, "k", h, KV, arch.kvHeads, walk.w.kNorm, c);
    const v = walk.rows("v", KV, c, storage.attention);
    if (storage.attention === "f32") {
      walk.linear("v_proj", "v", h, v, c);
    } else {
      const made = walk.work("v f32", KV, c);
      walk.linear("v_proj", "v", h, made, c);
      walk.make("v", convert(walk, "v", made, v, c));
    }
  });
}

const convert = (walk: LayerWalk, what: string, x: Tensor, y: Tensor, c: Chunk): Call =>
  callConvertRows(`${walk.label} ${what} stored`, { x, y }, { N: c.N, width: x.shape[1] ?? 0 });

/** q or k: product, norm where the model has one, RoPE; stored as attention wants it. */
function turned(
  walk: LayerWalk,
  what: "q" | "k",
  h: Tensor,
  width: number,
  heads: number,
  norm: Tensor | undefined,
  c: Chunk,
): void {
  const { arch, storage } = walk.ctx;
  const stored = walk.rows(what, width, c, storage.attention);
  const isPlain = storage.attention === "f32";
  const role = `${what}_proj` as const;
  if (!norm) {
    const made = isPlain ? stored : walk.work(`${what} f32`, width, c);
    walk.linear(role, what, h, made, c);
    walk.make(what, walk.rope(what, made, heads, c));
    if (!isPlain) walk.make(what, convert(walk, what, made, stored, c));
    return;
  }
  const raw = `${what}_raw` as const;
  const kept = walk.rows(raw, width, c, storage.attention);
  const made = kept.dtype === "f32" ? kept : walk.work(`${raw} f32`, width, c);
  walk.linear(role, raw, h, made, c);
  if (kept !== made) walk.make(raw, convert(walk, raw, made, kept, c));
  const normed = isPlain ? stored : walk.work(`${what} f32`, width, c);
  const sizes = { rows: c.N * heads, D: arch.headDim, eps: arch.normEps };
  walk.make(
    what,
    callRmsNormForward(`${walk.label} ${what} norm`, { x: made, weight: norm, y: normed }, sizes),
    walk.rope(what, normed, heads, c),
  );
  if (!isPlain) walk.make(what, convert(walk, what, normed, stored, c));
}

export interface LowerHalf {
  readonly o: Tensor;
  readonly lse: Tensor;
  readonly mid: Tensor;
  readonly h2: Tensor;
  readonly gate: Tensor;
  readonly up: Tensor;
  readonly act: Tensor;
}

/** Attention and what follows it for the rows of a chunk, up to the input of the last product. */
export function lowerHalf(walk: LayerWalk, x: Tensor, c: Chunk): LowerHalf {
  const { ctx, w, label } = walk;
  const { arch, storage } = ctx;
  const [D, F, Q, KV] = widths(ctx);
  const o = walk.rows("o", Q, c);
  const lse = walk.rows("lse", arch.heads, c);
  walk.make(
    "o",
    callAttentionForward(
      `${label} attention`,
      {
        q: walk.rows("q", Q, c, storage.attention),
        k: walk.whole("k", KV, storage.attention),
        v: walk.whole("v", KV, storage.attention),
        spans: ctx.spans,
        o,
        lse,
      },
      { ...attentionSizes(ctx, w), N: c.N, queryRow: c.first, half: walk.rounds },
    ),
  );
  const mid = walk.rows("mid", D, c);
  walk.linear("o_proj", "mid", o, mid, c, x);
  const h2 = walk.rows("h2", D, c);
  const sizes = { rows: c.N, D, eps: arch.normEps };
  walk.make("h2", callRmsNormForward(`${label} post norm`, { x: mid, weight: w.postNorm, y: h2 }, sizes));
  const [gate, up, act] = [walk.rows("gate", F, c), walk.rows("up", F, c), walk.rows("act", F, c)];
  walk.linear("gate_proj", "gate", h2, gate, c);
  walk.linear("up_proj", "up", h2, up, c);
  walk.make("act", callSwigluForward(`${label} swiglu`, { gate, up, y: act }, { count: c.N * F }));
  walk.lowrank("down_proj", act, c);
  return { o, lse, mid, h2, gate, up, act };
}
