/** The f64 twins of attention: one query, one head at a time, scores of the visible keys in a plain array. */
import { bound, option, size, type Call, type NumberArray, type TwinMemory } from "../program/kernel.js";
import { packBlocks, unpackBlocks } from "../quant/block_float.js";

interface Shape {
  readonly N: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly window: number;
}

function shapeOf(call: Call): Shape {
  return {
    N: size(call, "N"),
    heads: option(call, "HEADS"),
    kvHeads: option(call, "KV_HEADS"),
    headDim: option(call, "HEAD_DIM"),
    scale: size(call, "scale"),
    window: size(call, "window"),
  };
}

/** First key that the query at a stream row sees; the last one is the row itself. */
const firstKey = (spans: NumberArray, row: number, window: number): number =>
  Math.max(spans[2 * row]!, window > 0 ? row - window + 1 : 0);

function dot(a: NumberArray, aAt: number, b: NumberArray, bAt: number, count: number): number {
  let sum = 0;
  for (let d = 0; d < count; d++) sum += a[aAt + d]! * b[bAt + d]!;
  return sum;
}

function addScaled(
  to: NumberArray,
  toAt: number,
  factor: number,
  from: NumberArray,
  fromAt: number,
  count: number,
): void {
  for (let d = 0; d < count; d++) to[toAt + d] = to[toAt + d]! + factor * from[fromAt + d]!;
}

/** o = softmax(scale q kT) v over the visible keys, lse the log of the softmax's denominator. */
export function attentionForwardTwin(memory: TwinMemory, call: Call): void {
  const { N, heads, kvHeads, headDim: D, scale, window } = shapeOf(call);
  const [q, k, v, spans] = [
    bound(memory, "q"),
    bound(memory, "k"),
    bound(memory, "v"),
    bound(memory, "spans"),
  ];
  const [o, lse] = [bound(memory, "o"), bound(memory, "lse")];
  const sums = new Float64Array(D);
  for (let t = 0; t < N; t++) {
    const row = size(call, "queryRow") + t;
    const first = firstKey(spans, row, window);
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads));
      const at = (t * heads + h) * D;
      const scores: number[] = [];
      for (let j = first; j <= row; j++) scores.push(scale * dot(q, at, k, (j * kvHeads + kv) * D, D));
      const largest = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((s) => Math.exp(s - largest));
      const total = weights.reduce((a, b) => a + b);
      sums.fill(0);
      for (const [i, w] of weights.entries())
        addScaled(sums, 0, w / total, v, ((first + i) * kvHeads + kv) * D, D);
      for (let d = 0; d < D; d++) o[at + d] = sums[d]!;
      lse[t * heads + h] = largest + Math.log(total);
    }
  }
}

/** statistics[t, h] = lse[t, h], sum_d o[t, h, d] d_o[t, h, d] */
export function attentionDeltaTwin(memory: TwinMemory, call: Call): void {
  const [o, dO] = [bound(memory, "o"), bound(memory, "d_o")];
  const [lse, statistics] = [bound(memory, "lse"), bound(memory, "statistics")];
  const D = option(call, "HEAD_DIM");
  const rows = size(call, "N") * option(call, "HEADS");
  const stored = memory["d_o_stored"];
  const seen = stored ? unpackBlocks(packBlocks(Float32Array.from(dO.subarray(0, rows * D)))) : dO;
  for (let i = 0; i < rows; i++) {
    statistics[2 * i] = lse[i]!;
    statistics[2 * i + 1] = dot(o, i * D, seen, i * D, D);
  }
  stored?.set(seen);
}

/** Calls `visit` for every visible pair with its probability p and the gradient ds of its unscaled score. */
function eachPair(
  memory: TwinMemory,
  call: Call,
  visit: (p: number, ds: number, qAt: number, kAt: number) => void,
): void {
  const { N, heads, kvHeads, headDim: D, scale, window } = shapeOf(call);
  const [q, k, v, spans] = [
    bound(memory, "q"),
    bound(memory, "k"),
    bound(memory, "v"),
    bound(memory, "spans"),
  ];
  const [dO, statistics] = [bound(memory, "d_o"), bound(memory, "statistics")];
  for (let t = 0; t < N; t++) {
    const row = size(call, "queryRow") + t;
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads));
      const qAt = (t * heads + h) * D;
      for (let j = firstKey(spans, row, window); j <= row; j++) {
        const kAt = (j * kvHeads + kv) * D;
        const p = Math.exp(scale * dot(q, qAt, k, kAt, D) - statistics[2 * (t * heads + h)]!);
        const ds = p * (dot(dO, qAt, v, kAt, D) - statistics[2 * (t * heads + h) + 1]!) * scale;
        visit(p, ds, qAt, kAt);
      }
    }
  }
}

/** d_q = sum over keys of ds k */
export function attentionBackwardQTwin(memory: TwinMemory, call: Call): void {
  const { N, heads, headDim: D } = shapeOf(call);
  const [k, dQ] = [bound(memory, "k"), bound(memory, "d_q")];
  const sums = new Float64Array(N * heads * D);
  eachPair(memory, call, (_, ds, qAt, kAt) => addScaled(sums, qAt, ds, k, kAt, D));
  dQ.set(sums);
}

/** d_k = sum over queries and heads of ds q, d_v that of p d_o */
export function attentionBackwardKvTwin(memory: TwinMemory, call: Call): void {
  const { N, kvHeads, headDim: D } = shapeOf(call);
  const [q, dO, dK, dV] = [
    bound(memory, "q"),
    bound(memory, "d_o"),
    bound(memory, "d_k"),
    bound(memory, "d_v"),
  ];
  const [kSums, vSums] = [new Float64Array(N * kvHeads * D), new Float64Array(N * kvHeads * D)];
  eachPair(memory, call, (p, ds, qAt, kAt) => {
    addScaled(kSums, kAt, ds, q, qAt, D);
    addScaled(vSums, kAt, p, dO, qAt, D);
  });
  dK.set(kSums);
  dV.set(vSums);
}
