/**
 * Backward of one decoder layer as program fragments: what forward did not keep is computed again, chunk by chunk, and
 * the gradient of the stream is turned from that of the output into that of the input in place.
 */
import { backwardCalls, factorCalls, mlpMagnitudes, type BackwardTensors } from "../adapter/linear.js";
import { callAttentionBackwardKv, callAttentionBackwardQ, callAttentionDelta } from "../kernels/attention.js";
import { callRmsNormBackward } from "../kernels/rms_norm.js";
import { callSwigluBackward, callSwigluBackwardMagnitudes } from "../kernels/swiglu.js";
import type { Call } from "../program/kernel.js";
import { tensor, type DType, type Tensor } from "../program/tensor.js";
import {
  ATTENTION_INPUTS,
  attentionSizes,
  isDora,
  LayerWalk,
  MLP_INPUTS,
  widths,
  type Kept,
} from "./layer.js";
import { attentionInputs, inputNorm, lowerHalf, postNorm, type LowerHalf } from "./layer_forward.js";
import { chunkRows, type Checkpoints, type Chunk, type StreamContext } from "./stream.js";
import type { LayerTensors } from "./tensors.js";

interface WholeGradients {
  /** Of attention's output, stored as q, k and v are. */
  readonly dO: Tensor;
  readonly dK: Tensor;
  readonly dV: Tensor;
  /** [capacity, heads, 2] lse and delta */
  readonly statistics: Tensor;
}

/**
 * Backward of a layer.
 * @param gradient f32 [capacity, D] of the layer's output; afterwards of its input
 * @param needsInput whether anything below is trained
 */
export function layerBackward(
  ctx: StreamContext,
  w: LayerTensors,
  checkpoints: Checkpoints,
  kept: Kept,
  gradient: Tensor,
  needsInput: boolean,
): readonly Call[] {
  const walk = new LayerWalk(ctx, w, "again", kept);
  const { arch, N, storage } = ctx;
  const [, , Q, KV] = widths(ctx);
  const whole = (name: string, width: number, dtype: DType = "f32"): Tensor =>
    tensor(`${walk.label}.${name}`, [ctx.capacity, width], dtype);
  const g: WholeGradients = {
    dO: whole("d_o", Q, storage.attention),
    dK: whole("d_k", KV),
    dV: whole("d_v", KV),
    statistics: whole("statistics", 2 * arch.heads),
  };
  walk.calls.push(...checkpoints.fetch(w.layer));
  if (!kept("q")) attentionInputs(walk, (c) => checkpoints.stored(w.layer, c));
  walk.chunks((c) => lowerHalfBackward(walk, checkpoints, gradient, g, c));
  walk.calls.push(
    callAttentionBackwardKv(
      `${walk.label} attention dKdV`,
      {
        q: walk.whole("q", Q, storage.attention),
        k: walk.whole("k", KV, storage.attention),
        v: walk.whole("v", KV, storage.attention),
        d_o: g.dO,
        statistics: g.statistics,
        spans: ctx.spans,
        d_k: g.dK,
        d_v: g.dV,
      },
      { ...attentionSizes(ctx, w), N },
    ),
  );
  walk.chunks((c) => upperHalfBackward(walk, checkpoints, gradient, g, c, needsInput));
  return walk.calls;
}

/** MLP, post norm and o_proj: the gradient of the output becomes that of the sum behind attention, and d_o is made. */
function lowerHalfBackward(
  walk: LayerWalk,
  checkpoints: Checkpoints,
  gradient: Tensor,
  g: WholeGradients,
  c: Chunk,
): void {
  const { ctx, w, label, calls } = walk;
  const { arch } = ctx;
  const [D, F, Q] = widths(ctx);
  const { o_proj, gate_proj, up_proj, down_proj } = w.linears;
  const input = (): Tensor => {
    const [x, unpacking] = checkpoints.rows(w.layer, c, "for the lower half");
    calls.push(...unpacking);
    return x;
  };
  const a = lowerHalf(walk, input, c);
  const s = { N: c.N, capacity: c.rows, name: `[${c.first}]`, half: ctx.storage.halfProducts };
  const d = chunkRows(gradient, c);
  const dAct = walk.work("d_act", F, c);
  const down = outputOfMlp(walk, checkpoints, a, c);
  calls.push(
    ...down.calls,
    ...backwardCalls(down_proj, { x: a.act, p: walk.p("down_proj", c), ...down.output, dy: d, dx: dAct }, s),
  );
  const dH2 = walk.work("d_h2", D, c);
  const dOStored = chunkRows(g.dO, c);
  const dO = dOStored.dtype === "f32" ? dOStored : walk.work("d_o f32", Q, c);
  const out = outputOfAttention(walk, checkpoints, a, c);
  const swiglu = { gate: a.gate, up: a.up, d: dAct };
  const magnitudes = mlpMagnitudes(gate_proj, up_proj);
  calls.push(
    magnitudes
      ? callSwigluBackwardMagnitudes(
          `${label} swiglu, dm`,
          { ...swiglu, gradient: magnitudes.gradient },
          magnitudes.modules,
          { N: c.N, width: F },
        )
      : callSwigluBackward(`${label} swiglu`, swiglu, { count: c.N * F }),
  );
  // What was brought or computed again had h2's room: a norm more takes less than keeping both.
  const h2 = down.calls.length > 0 ? postNorm(walk, a.mid, c, "for backward") : a.h2;
  const mlp = walk.gradients(MLP_INPUTS, h2, c);
  calls.push(
    ...factorCalls(
      gate_proj,
      { x: h2, p: walk.p("gate_proj", c), dy: a.gate, dx: dH2 },
      { ...s, q: mlp.rows("gate_proj") },
    ),
    ...factorCalls(
      up_proj,
      { x: h2, p: walk.p("up_proj", c), dy: dAct, dx: dH2 },
      { ...s, q: mlp.rows("up_proj"), accumulate: true },
    ),
    ...mlp.calls,
    callRmsNormBackward(
      `${label} post norm`,
      { x: a.mid, weight: w.postNorm, dy: dH2, dx: d },
      { rows: c.N, D, eps: arch.normEps, accumulate: true },
    ),
    ...out.calls,
  );
  walk.unpack("o", Q, c);
  calls.push(
    ...backwardCalls(
      o_proj,
      {
        x: a.o,
        p: walk.p("o_proj", c),
        ...out.output,
        dy: d,
        dx: dO,
      },
      s,
    ),
    callAttentionDelta(
      `${label} attention`,
      {
        o: a.o,
        d_o: dO,
        lse: a.lse,
        statistics: chunkRows(g.statistics, c),
        ...(dO !== dOStored && { d_o_stored: dOStored }),
      },
      { N: c.N, heads: arch.heads, headDim: arch.headDim },
    ),
  );
}

/** What a magnitude learns from, and what makes it: nothing where there is no magnitude. */
interface OwnOutput {
  readonly output?: Pick<BackwardTensors, "y" | "residual">;
  readonly calls: readonly Call[];
}

/** What down_proj's magnitude learns from: the next layer's input, or the product again where that is gone. */
function outputOfMlp(
  walk: LayerWalk,
  checkpoints: Checkpoints,
  { act, mid }: LowerHalf,
  c: Chunk,
): OwnOutput {
  const { ctx, w } = walk;
  if (!isDora(w.linears.down_proj)) return { calls: [] };
  const output = checkpoints.output(w.layer, c);
  if (output) return { output: { y: output[0], residual: mid }, calls: output[1] };
  const y = walk.work("down again", ctx.arch.hidden, c);
  return { output: { y }, calls: [walk.product("down_proj", act, y, c)] };
}

/** What o_proj's magnitude learns from, made as late as possible: all of it is as wide as the stream. */
function outputOfAttention(
  walk: LayerWalk,
  checkpoints: Checkpoints,
  { o, mid }: LowerHalf,
  c: Chunk,
): OwnOutput {
  const { ctx, w } = walk;
  if (!isDora(w.linears.o_proj)) return { calls: [] };
  if (ctx.storage.checkpoint !== "bf16")
    return { output: { y: mid, residual: checkpoints.stored(w.layer, c) }, calls: [] };
  if (walk.kept("mid")) {
    // Forward added it to the input before that was rounded, by as much as the product is large: it is computed again.
    const y = walk.work("out again", ctx.arch.hidden, c);
    return { output: { y }, calls: [walk.product("o_proj", o, y, c)] };
  }
  const [residual, calls] = checkpoints.rows(w.layer, c, "for o_proj");
  return { output: { y: mid, residual }, calls };
}

/** Attention's queries, q, k and v products and the input norm. */
function upperHalfBackward(
  walk: LayerWalk,
  checkpoints: Checkpoints,
  gradient: Tensor,
  g: WholeGradients,
  c: Chunk,
  needsInput: boolean,
): void {
  const { ctx, w, label, calls } = walk;
  const { arch, storage } = ctx;
  const [D, , Q, KV] = widths(ctx);
  const { q_proj, k_proj, v_proj } = w.linears;
  const [dK, dV, dQ] = [chunkRows(g.dK, c), chunkRows(g.dV, c), walk.work("d_q", Q, c)];
  calls.push(
    callAttentionBackwardQ(
      `${label} attention dQ`,
      {
        q: walk.rows("q", Q, c, storage.attention),
        k: walk.whole("k", KV, storage.attention),
        v: walk.whole("v", KV, storage.attention),
        d_o: chunkRows(g.dO, c),
        statistics: chunkRows(g.statistics, c),
        spans: ctx.spans,
        d_q: dQ,
      },
      { ...attentionSizes(ctx, w), N: c.N, queryRow: c.first },
    ),
    walk.rope("dq, dk", dQ, dK, c, -1),
  );
  /** The gradient before RoPE and norm, and the product's output as the magnitude wants it. */
  const raw = (
    what: "q" | "k",
    dy: Tensor,
    heads: number,
    norm: Tensor | undefined,
  ): Pick<BackwardTensors, "dy" | "y" | "turned"> => {
    const width = heads * arch.headDim;
    if (!norm) {
      const factor = 1 / (ctx.ropeScale * ctx.ropeScale);
      const turned = { ...walk.turning(c), headDim: arch.headDim, factor };
      return { dy, y: walk.rows(what, width, c, storage.attention), turned };
    }
    const stored = walk.rows(`${what}_raw`, width, c, storage.attention);
    const dx = walk.work(`d_${what}_raw`, width, c);
    const sizes = { rows: c.N * heads, D: arch.headDim, eps: arch.normEps };
    calls.push(callRmsNormBackward(`${label} ${what} norm`, { x: stored, weight: norm, dy, dx }, sizes));
    return { dy: dx, y: stored };
  };
  const x = checkpoints.stored(w.layer, c);
  const h = inputNorm(walk, x, c, "for backward");
  const dH = walk.work("d_h", D, c);
  const into = needsInput ? { dx: dH } : {};
  const s = { N: c.N, capacity: c.rows, name: `[${c.first}]`, half: ctx.storage.halfProducts };
  const more = { ...s, accumulate: true };
  const group = walk.gradients(ATTENTION_INPUTS, h, c);
  const factors = (role: "q_proj" | "k_proj" | "v_proj") => ({
    x: h,
    p: walk.p(role, c),
    ...into,
  });
  const ofQ = raw("q", dQ, arch.heads, w.qNorm);
  calls.push(...backwardCalls(q_proj, { ...factors("q_proj"), ...ofQ }, { ...s, q: group.rows("q_proj") }));
  const ofK = raw("k", dK, arch.kvHeads, w.kNorm);
  calls.push(
    ...backwardCalls(k_proj, { ...factors("k_proj"), ...ofK }, { ...more, q: group.rows("k_proj") }),
  );
  const ofV = { y: walk.rows("v", KV, c, storage.attention), dy: dV };
  calls.push(
    ...backwardCalls(v_proj, { ...factors("v_proj"), ...ofV }, { ...more, q: group.rows("v_proj") }),
    ...group.calls,
  );
  if (!needsInput) return;
  const sizes = { rows: c.N, D, eps: arch.normEps, accumulate: true };
  const t = { x, weight: w.inputNorm, dy: dH, dx: chunkRows(gradient, c) };
  calls.push(callRmsNormBackward(`${label} input norm`, t, sizes));
}
