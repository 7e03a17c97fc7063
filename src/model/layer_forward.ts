/** Forward of one decoder layer as program fragments, and the parts of it that run again before backward. */
import { callAttentionForward } from "../kernels/attention.js";
import { callConvertRows } from "../kernels/convert_rows.js";
import { callRmsNormForward } from "../kernels/rms_norm.js";
import { callAttentionStore } from "../kernels/rope.js";
import { callSwigluForward } from "../kernels/swiglu.js";
import type { Call } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { attentionSizes, LayerWalk, widths, type Kept } from "./layer.js";
import { chunkRows, type Chunk, type StreamContext } from "./stream.js";
import type { LayerTensors } from "./tensors.js";

/** The rows of a layer's input, as they are stored. */
export type InputRows = (chunk: Chunk) => Tensor;

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
  attentionInputs(walk, (c) => chunkRows(x, c));
  walk.chunks((c) => {
    const { mid, act } = lowerHalf(walk, () => chunkRows(x, c), c);
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

/** The input of gate and up: what attention and its residual come to, normed. `use` as of `inputNorm`. */
export function postNorm(walk: LayerWalk, mid: Tensor, c: Chunk, use: string): Tensor {
  const { arch } = walk.ctx;
  const h2 = walk.kept("h2") ? walk.rows("h2", arch.hidden, c) : walk.work(`h2 ${use}`, arch.hidden, c);
  const sizes = { rows: c.N, D: arch.hidden, eps: arch.normEps };
  const call = callRmsNormForward(
    `${walk.label} post norm`,
    { x: mid, weight: walk.w.postNorm, y: h2 },
    sizes,
  );
  walk.make("h2", call);
  return h2;
}

/** q, k and v of all chunks, as attention reads them. They are kept together or not at all. */
export function attentionInputs(walk: LayerWalk, input: InputRows): void {
  const { arch, storage } = walk.ctx;
  const [, , Q, KV] = widths(walk.ctx);
  walk.chunks((c) => {
    const h = inputNorm(walk, input(c), c, walk.pass);
    const q = unturned(walk, "q", h, Q, arch.heads, walk.w.qNorm, c);
    const k = unturned(walk, "k", h, KV, arch.kvHeads, walk.w.kNorm, c);
    if (storage.attention === "f32") {
      walk.linear("v_proj", "v", h, walk.rows("v", KV, c), c);
      walk.make("q", walk.rope("q, k", q, k, c, 1));
      return;
    }
    const v = walk.work("v f32", KV, c);
    walk.linear("v_proj", "v", h, v, c);
    const stored = {
      q_stored: walk.rows("q", Q, c, storage.attention),
      k_stored: walk.rows("k", KV, c, storage.attention),
      v_stored: walk.rows("v", KV, c, storage.attention),
    };
    walk.make(
      "q",
      callAttentionStore(
        `${walk.label} q, k, v stored`,
        { q, k, v, ...stored, ...walk.turning(c) },
        { ...walk.heads, N: c.N },
      ),
    );
  });
}

/** q or k in f32 before RoPE: product, and norm where the model has one. */
function unturned(
  walk: LayerWalk,
  what: "q" | "k",
  h: Tensor,
  width: number,
  heads: number,
  norm: Tensor | undefined,
  c: Chunk,
): Tensor {
  const { arch, storage } = walk.ctx;
  const isPlain = storage.attention === "f32";
  const made = isPlain ? walk.rows(what, width, c) : walk.work(`${what} f32`, width, c);
  const role = `${what}_proj` as const;
  if (!norm) {
    walk.linear(role, what, h, made, c);
    return made;
  }
  const raw = `${what}_raw` as const;
  const kept = walk.rows(raw, width, c, storage.attention);
  const product = kept.dtype === "f32" ? kept : walk.work(`${raw} f32`, width, c);
  walk.linear(role, raw, h, product, c);
  if (kept !== product) {
    const t = { x: product, y: kept };
    walk.make(raw, callConvertRows(`${walk.label} ${raw} stored`, t, { N: c.N, width }));
  }
  const sizes = { rows: c.N * heads, D: arch.headDim, eps: arch.normEps };
  const t = { x: product, weight: norm, y: made };
  walk.make(what, callRmsNormForward(`${walk.label} ${what} norm`, t, sizes));
  return made;
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

/**
 * Attention and what follows it for the rows of a chunk, up to the input of the last product. Before backward, o may still be packed.
 * @param x the layer's input in f32, asked for where o_proj is computed
 */
export function lowerHalf(walk: LayerWalk, x: () => Tensor, c: Chunk): LowerHalf {
  const { ctx, w, label } = walk;
  const { arch, storage } = ctx;
  const [D, F, Q, KV] = widths(ctx);
  const o = walk.unpacked("o", Q, c);
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
  // o, its p and the sum are kept together or not at all.
  const mid = walk.makes("mid") ? walk.unpacked("mid", D, c) : walk.stored("mid", D, c);
  if (walk.makes("mid")) {
    walk.linear("o_proj", "mid", o, mid, c, x());
    walk.pack("o", Q, c);
    walk.pack("mid", D, c);
  }
  const h2 = postNorm(walk, mid, c, walk.pass);
  const [gate, up, act] = [walk.rows("gate", F, c), walk.rows("up", F, c), walk.rows("act", F, c)];
  walk.linear("gate_proj", "gate", h2, gate, c);
  walk.linear("up_proj", "up", h2, up, c);
  walk.make("act", callSwigluForward(`${label} swiglu`, { gate, up, y: act }, { count: c.N * F }));
  walk.lowrank("down_proj", act, c);
  return { o, lse, mid, h2, gate, up, act };
}
