/** One decoder layer as program fragments: forward, recomputation and backward (Llama, Mistral, Qwen2, Qwen3). */
import { backwardCalls, lowrankCalls, productCall, rowNormCalls, type Linear } from "../adapter/linear.js";
import {
  callAttentionBackwardKv,
  callAttentionBackwardQ,
  callAttentionDelta,
  callAttentionForward,
} from "../kernels/attention.js";
import { callRmsNormBackward, callRmsNormForward } from "../kernels/rms_norm.js";
import { callRope } from "../kernels/rope.js";
import { callSwigluBackward, callSwigluForward } from "../kernels/swiglu.js";
import type { Call } from "../program/kernel.js";
import { tensor, type Tensor } from "../program/tensor.js";
import type { Architecture } from "./config.js";
import type { Role } from "./modules.js";
import type { LayerTensors } from "./tensors.js";

/** What all layers of one micro-batch share. */
export interface StreamContext {
  readonly arch: Architecture;
  /** Tokens of this program, and the most it can ever have (tensor shapes). */
  readonly N: number;
  readonly capacity: number;
  /** u32 [capacity] position of each token in its sequence. */
  readonly positions: Tensor;
  /** u32 [capacity, 2] start and end of each token's sequence in the stream. */
  readonly spans: Tensor;
  readonly ropeTable: Tensor;
  /** cos and sin are scaled by this (yarn); 1 elsewhere. */
  readonly ropeScale: number;
}

/** Activations of a layer that backward needs. */
export type Activation =
  | "h"
  | "q_raw"
  | "k_raw"
  | "q"
  | "k"
  | "v"
  | "o"
  | "lse"
  | "mid"
  | "h2"
  | "gate"
  | "up"
  | "act"
  | `${Role}.p`;

/** What forward keeps for backward; everything else is computed again. */
export type Kept = (activation: Activation) => boolean;
export const KEEP_ALL: Kept = () => true;
export const KEEP_NONE: Kept = () => false;
/** Cheap to keep, dear to compute: the attention half. */
export const KEEP_ATTENTION: Kept = (a) =>
  ["q_raw", "k_raw", "q", "k", "v", "o", "lse", "mid"].includes(a) || /^[qkvo]_proj\.p$/.test(a);

type Pass = "forward" | "again";

class LayerWalk {
  readonly ctx: StreamContext;
  readonly w: LayerTensors;
  readonly pass: Pass;
  readonly kept: Kept;
  readonly calls: Call[] = [];

  constructor(ctx: StreamContext, w: LayerTensors, pass: Pass, kept: Kept) {
    this.ctx = ctx;
    this.w = w;
    this.pass = pass;
    this.kept = kept;
  }

  at(name: Activation, width: number): Tensor {
    const again = this.pass === "again" && !this.kept(name) ? " again" : "";
    return tensor(`layers.${this.w.layer}.${name}${again}`, [this.ctx.capacity, width]);
  }

  /** Adds calls that make an activation, unless it was kept from forward. */
  make(name: Activation, ...calls: readonly Call[]): void {
    if (this.pass === "forward" || !this.kept(name)) this.calls.push(...calls);
  }

  p(role: Role): Tensor | undefined {
    const rank = this.w.linears[role].adapter?.rank;
    return rank === undefined ? undefined : this.at(`${role}.p`, rank);
  }

  linear(role: Role, name: Activation, x: Tensor, y: Tensor, residual?: Tensor): void {
    const linear = this.w.linears[role];
    const p = this.p(role);
    this.make(`${role}.p`, ...lowrankCalls(linear, x, p, this.ctx.N));
    this.make(name, productCall(linear, { x, p, y, ...(residual && { residual }) }, { N: this.ctx.N }));
  }
}

export interface LayerActivations {
  readonly h: Tensor;
  readonly qRaw: Tensor;
  readonly kRaw: Tensor;
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly o: Tensor;
  readonly lse: Tensor;
  readonly mid: Tensor;
  readonly h2: Tensor;
  readonly gate: Tensor;
  readonly up: Tensor;
  readonly act: Tensor;
  readonly p: (role: Role) => Tensor | undefined;
}

/** Row norms of the whole layer, before its first use after an update. */
export const layerRowNorms = (w: LayerTensors): readonly Call[] =>
  Object.values(w.linears).flatMap((l) => rowNormCalls(l));

/** RoPE over the heads of a tensor. */
function ropeCall(
  ctx: StreamContext,
  label: string,
  x: Tensor,
  heads: number,
  direction: 1 | -1,
  factor = 1,
): Call {
  const s = { N: ctx.N, heads, headDim: ctx.arch.headDim, direction, factor };
  return callRope(label, { x, table: ctx.ropeTable, positions: ctx.positions }, s);
}

/**
 * Forward of a layer, x -> next; in pass "again" what backward needs and forward did not keep (never the last product).
 * @param x [N, D] the layer's input
 * @param next [N, D] its output; not written in pass "again"
 */
export function layerForward(
  ctx: StreamContext,
  w: LayerTensors,
  x: Tensor,
  next: Tensor,
  pass: Pass,
  kept: Kept,
): { readonly calls: readonly Call[]; readonly activations: LayerActivations } {
  const { arch, N } = ctx;
  const walk = new LayerWalk(ctx, w, pass, kept);
  const [D, F, Q, KV] = [
    arch.hidden,
    arch.feedForward,
    arch.heads * arch.headDim,
    arch.kvHeads * arch.headDim,
  ];
  const label = `layers.${w.layer}`;
  const normSizes = { rows: N, D, eps: arch.normEps };
  const h = walk.at("h", D);
  walk.make("h", callRmsNormForward(`${label} input norm`, { x, weight: w.inputNorm, y: h }, normSizes));
  const [q, k, v] = [walk.at("q", Q), walk.at("k", KV), walk.at("v", KV)];
  const qRaw = w.qNorm ? walk.at("q_raw", Q) : q;
  const kRaw = w.kNorm ? walk.at("k_raw", KV) : k;
  walk.linear("q_proj", w.qNorm ? "q_raw" : "q", h, qRaw);
  walk.linear("k_proj", w.kNorm ? "k_raw" : "k", h, kRaw);
  walk.linear("v_proj", "v", h, v);
  if (w.qNorm && w.kNorm) {
    const eps = arch.normEps;
    walk.make(
      "q",
      callRmsNormForward(
        `${label} q norm`,
        { x: qRaw, weight: w.qNorm, y: q },
        { rows: N * arch.heads, D: arch.headDim, eps },
      ),
    );
    walk.make(
      "k",
      callRmsNormForward(
        `${label} k norm`,
        { x: kRaw, weight: w.kNorm, y: k },
        { rows: N * arch.kvHeads, D: arch.headDim, eps },
      ),
    );
  }
  walk.make("q", ropeCall(ctx, `${label} rope q`, q, arch.heads, 1));
  walk.make("k", ropeCall(ctx, `${label} rope k`, k, arch.kvHeads, 1));
  const o = walk.at("o", Q);
  const lse = walk.at("lse", arch.heads);
  walk.make(
    "o",
    callAttentionForward(
      `${label} attention`,
      { q, k, v, spans: ctx.spans, o, lse },
      { ...attentionSizes(ctx, w), queryRow: 0 },
    ),
  );
  const mid = walk.at("mid", D);
  walk.linear("o_proj", "mid", o, mid, x);
  const h2 = walk.at("h2", D);
  walk.make("h2", callRmsNormForward(`${label} post norm`, { x: mid, weight: w.postNorm, y: h2 }, normSizes));
  const [gate, up, act] = [walk.at("gate", F), walk.at("up", F), walk.at("act", F)];
  walk.linear("gate_proj", "gate", h2, gate);
  walk.linear("up_proj", "up", h2, up);
  walk.make("act", callSwigluForward(`${label} swiglu`, { gate, up, y: act }, { count: N * F }));
  const down = w.linears.down_proj;
  const pDown = walk.p("down_proj");
  walk.make("down_proj.p", ...lowrankCalls(down, act, pDown, N));
  if (pass === "forward")
    walk.calls.push(productCall(down, { x: act, p: pDown, y: next, residual: mid }, { N }));
  const p = (role: Role): Tensor | undefined => walk.p(role);
  return { calls: walk.calls, activations: { h, qRaw, kRaw, q, k, v, o, lse, mid, h2, gate, up, act, p } };
}

function attentionSizes(ctx: StreamContext, w: LayerTensors) {
  const { arch } = ctx;
  return {
    N: ctx.N,
    heads: arch.heads,
    kvHeads: arch.kvHeads,
    headDim: arch.headDim,
    scale: 1 / Math.sqrt(arch.headDim),
    window: w.window,
  };
}

/**
 * Backward of a layer.
 * @param t.x [N, D] its input; `t.next` its output; `t.dNext` the gradient of the output
 * @param t.dX [N, D] written; left out in the first layer, below which nothing is trained
 */
export function layerBackward(
  ctx: StreamContext,
  w: LayerTensors,
  a: LayerActivations,
  t: { readonly x: Tensor; readonly next: Tensor; readonly dNext: Tensor; readonly dX?: Tensor },
): readonly Call[] {
  const { arch, N, capacity } = ctx;
  const [D, F, Q, KV] = [
    arch.hidden,
    arch.feedForward,
    arch.heads * arch.headDim,
    arch.kvHeads * arch.headDim,
  ];
  const label = `layers.${w.layer}`;
  const work = (name: string, width: number): Tensor =>
    tensor(`layers.${w.layer}.d_${name}`, [capacity, width]);
  const isDora = (l: Linear): boolean => l.adapter?.parameters.magnitude !== undefined;
  const norm = { rows: N, D, eps: arch.normEps };
  const s = { N, capacity };
  const calls: Call[] = [];

  const { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj } = w.linears;
  const dAct = work("act", F);
  const eDown = isDora(down_proj) ? { e: work("down", D) } : {};
  calls.push(
    ...backwardCalls(
      down_proj,
      { x: a.act, p: a.p("down_proj"), y: t.next, residual: a.mid, dy: t.dNext, dx: dAct, ...eDown },
      s,
    ),
  );
  const [dGate, dUp, dH2] = [work("gate", F), work("up", F), work("h2", D)];
  calls.push(
    callSwigluBackward(
      `${label} swiglu`,
      { gate: a.gate, up: a.up, dy: dAct, d_gate: dGate, d_up: dUp },
      { count: N * F },
    ),
  );
  calls.push(...backwardCalls(gate_proj, { x: a.h2, p: a.p("gate_proj"), y: a.gate, dy: dGate, dx: dH2 }, s));
  calls.push(
    ...backwardCalls(
      up_proj,
      { x: a.h2, p: a.p("up_proj"), y: a.up, dy: dUp, dx: dH2 },
      { ...s, accumulate: true },
    ),
  );
  const dMid = work("mid", D);
  calls.push(
    callRmsNormBackward(
      `${label} post norm`,
      { x: a.mid, weight: w.postNorm, dy: dH2, residual: t.dNext, dx: dMid },
      norm,
    ),
  );

  const dO = work("o", Q);
  const eOut = isDora(o_proj) ? { e: work("out", D) } : {};
  calls.push(
    ...backwardCalls(
      o_proj,
      { x: a.o, p: a.p("o_proj"), y: a.mid, residual: t.x, dy: dMid, dx: dO, ...eOut },
      s,
    ),
  );
  const [dQ, dK, dV] = [work("q", Q), work("k", KV), work("v", KV)];
  const statistics = work("statistics", 2 * arch.heads);
  const attention = attentionSizes(ctx, w);
  const shared = { q: a.q, k: a.k, v: a.v, d_o: dO, statistics, spans: ctx.spans };
  calls.push(
    callAttentionDelta(
      `${label} attention`,
      { o: a.o, d_o: dO, lse: a.lse, statistics },
      { N, heads: arch.heads, headDim: arch.headDim },
    ),
    callAttentionBackwardQ(`${label} attention dQ`, { ...shared, d_q: dQ }, attention),
    callAttentionBackwardKv(`${label} attention dKdV`, { ...shared, d_k: dK, d_v: dV }, attention),
    ropeCall(ctx, `${label} rope dq`, dQ, arch.heads, -1),
    ropeCall(ctx, `${label} rope dk`, dK, arch.kvHeads, -1),
  );
  let [dQRaw, dKRaw] = [dQ, dK];
  if (w.qNorm && w.kNorm) {
    const eps = arch.normEps;
    [dQRaw, dKRaw] = [work("q_raw", Q), work("k_raw", KV)];
    calls.push(
      callRmsNormBackward(
        `${label} q norm`,
        { x: a.qRaw, weight: w.qNorm, dy: dQ, dx: dQRaw },
        { rows: N * arch.heads, D: arch.headDim, eps },
      ),
      callRmsNormBackward(
        `${label} k norm`,
        { x: a.kRaw, weight: w.kNorm, dy: dK, dx: dKRaw },
        { rows: N * arch.kvHeads, D: arch.headDim, eps },
      ),
    );
  } else {
    // The magnitude's gradient wants the product before RoPE: turned back in place, attention is done with it.
    const undo = 1 / (ctx.ropeScale * ctx.ropeScale);
    if (isDora(q_proj)) calls.push(ropeCall(ctx, `${label} unrope q`, a.q, arch.heads, -1, undo));
    if (isDora(k_proj)) calls.push(ropeCall(ctx, `${label} unrope k`, a.k, arch.kvHeads, -1, undo));
  }
  const dH = t.dX && work("h", D);
  const into = dH ? { dx: dH } : {};
  calls.push(...backwardCalls(q_proj, { x: a.h, p: a.p("q_proj"), y: a.qRaw, dy: dQRaw, ...into }, s));
  calls.push(
    ...backwardCalls(
      k_proj,
      { x: a.h, p: a.p("k_proj"), y: a.kRaw, dy: dKRaw, ...into },
      { ...s, accumulate: true },
    ),
  );
  calls.push(
    ...backwardCalls(
      v_proj,
      { x: a.h, p: a.p("v_proj"), y: a.v, dy: dV, ...into },
      { ...s, accumulate: true },
    ),
  );
  if (t.dX && dH) {
    calls.push(
      callRmsNormBackward(
        `${label} input norm`,
        { x: t.x, weight: w.inputNorm, dy: dH, residual: dMid, dx: t.dX },
        norm,
      ),
    );
  }
  return calls;
}
