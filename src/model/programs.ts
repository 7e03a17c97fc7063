/** The programs of a training run: one micro-batch forward and backward, evaluation. Plain lists of calls. */
import { callCrossEntropyBackward, callCrossEntropyForward, callSumLoss } from "../kernels/cross_entropy.js";
import { callEmbeddingGather } from "../kernels/embedding.js";
import { callProductBackward, callProductForward, type HalfInputs } from "../kernels/product.js";
import { callRmsNormBackward, callRmsNormForward } from "../kernels/rms_norm.js";
import type { Call, Program } from "../program/kernel.js";
import { rowsOf, tensor, type Tensor } from "../program/tensor.js";
import { callUpload } from "../program/transfer.js";
import { KEEP_ALL, KEEP_ATTENTION, KEEP_NONE, type Kept } from "./layer.js";
import { layerBackward } from "./layer_backward.js";
import { layerForward } from "./layer_forward.js";
import { layerStream, residentRowNorms } from "./layer_stream.js";
import {
  checkpointsOf,
  chunksOf,
  inChunk,
  PLAIN_STORAGE,
  type StreamContext,
  type StreamStorage,
} from "./stream.js";
import type { Architecture } from "./config.js";
import type { ModelTensors } from "./tensors.js";

export type GradientCheckpointing = "full" | "selective" | "none";

/** What the host writes before a micro-batch, and what it reads after a step. */
export interface StreamTensors {
  /** u32 [capacity] */
  readonly tokens: Tensor;
  /** u32 [capacity] */
  readonly positions: Tensor;
  /** u32 [capacity, 2] */
  readonly spans: Tensor;
  /** i32 [capacity], already shifted; -100 = not scored */
  readonly labels: Tensor;
  /** f32 [capacity] */
  readonly tokenLoss: Tensor;
  /** f32 [16]: 1/n, learning rate and so on; see the adamw kernel. */
  readonly step: Tensor;
  /** f32 [16]: loss sum, gradient norm, clip factor. */
  readonly totals: Tensor;
}

export function streamTensors(capacity: number): StreamTensors {
  const staging = (name: string, shape: readonly number[], dtype: "u32" | "i32" | "f32"): Tensor =>
    tensor(name, shape, dtype, "staging");
  return {
    tokens: staging("tokens", [capacity], "u32"),
    positions: staging("positions", [capacity], "u32"),
    spans: staging("spans", [capacity, 2], "u32"),
    labels: staging("labels", [capacity], "i32"),
    tokenLoss: staging("token loss", [capacity], "f32"),
    step: staging("step", [16], "f32"),
    totals: staging("totals", [16], "f32"),
  };
}

export interface BuildSizes {
  /** Tokens of the micro-batch, at most `capacity`. */
  readonly N: number;
  readonly capacity: number;
  readonly checkpointing: GradientCheckpointing;
  /** Default: everything f32, whole and on the GPU. */
  readonly storage?: StreamStorage;
}

/** The host's name of the embedding rows of a micro-batch, f32 [N, D]. */
export const EMBEDDING_ROWS = "embedding rows";

const KEPT: Record<GradientCheckpointing, Kept> = {
  full: KEEP_NONE,
  selective: KEEP_ATTENTION,
  none: KEEP_ALL,
};

/** Bytes of logits that exist at a time: at least, and never more than every adapter binds. */
const LEAST_LOGITS_BYTES = 24 << 20;
const MOST_LOGITS_BYTES = 1 << 27;

/**
 * Tokens whose logits are computed together: a multiple of 32, at least 32. Long streams can afford more: half a stream's
 * activation is free while the head runs.
 */
export function logitsRows(arch: Architecture, capacity: number): number {
  const free = Math.max(LEAST_LOGITS_BYTES, 2 * capacity * arch.hidden);
  const rows = Math.min(free, MOST_LOGITS_BYTES) / (4 * arch.vocab);
  return Math.min(capacity, Math.max(32, Math.floor(rows / 32) * 32));
}

/** What the layers of a program share. */
export function streamContext(model: ModelTensors, stream: StreamTensors, sizes: BuildSizes): StreamContext {
  const { N, capacity, storage = PLAIN_STORAGE } = sizes;
  return {
    arch: model.arch,
    N,
    capacity,
    chunks: chunksOf(N, capacity, storage.chunk),
    storage,
    positions: stream.positions,
    spans: stream.spans,
    ropeTable: model.ropeTable,
    ropeScale: model.arch.rope.attentionFactor,
  };
}

/** The first layer's input: gathered on the GPU, or brought from the host. */
function inputCalls(
  model: ModelTensors,
  stream: StreamTensors,
  ctx: StreamContext,
  x: Tensor,
): readonly Call[] {
  if (!ctx.storage.hostEmbedding) return embeddingCalls(model, stream.tokens, x, ctx.N);
  return [callUpload("embedding", x, EMBEDDING_ROWS, 4 * ctx.N * ctx.arch.hidden)];
}

/** x[t] = embedding[tokens[t]]. */
export function embeddingCalls(model: ModelTensors, tokens: Tensor, x: Tensor, N: number): readonly Call[] {
  return model.embedding.map(({ firstRow, weight }) =>
    callEmbeddingGather(
      "embedding",
      { table: weight, tokens, x },
      { N, D: model.arch.hidden, firstRow, add: firstRow > 0 },
    ),
  );
}

/** logits of `rows` tokens from token `row` on. `half`: whether the product may compute in f16. */
export function logitsCalls(
  model: ModelTensors,
  hn: Tensor,
  logits: Tensor,
  rows: number,
  row: number,
  half: HalfInputs = false,
): readonly Call[] {
  return model.head.map(({ firstRow, weight }) =>
    callProductForward(
      "head",
      { x: hn, weight, y: logits },
      { N: rows, xRow: row, yColumn: firstRow, yStride: model.arch.vocab, half },
    ),
  );
}

/**
 * Final norm, head and loss over chunks of tokens. With `gradient` [capacity, D] the chunk's gradient overwrites its
 * logits and goes back through head and norm.
 */
function headCalls(
  model: ModelTensors,
  stream: StreamTensors,
  ctx: StreamContext,
  x: Tensor,
  gradient: Tensor | undefined,
): readonly Call[] {
  const { vocab: V, hidden: D, normEps: eps } = model.arch;
  const { N, capacity } = ctx;
  const half = ctx.storage.halfProducts;
  const size = logitsRows(model.arch, capacity);
  const logits = tensor("logits", [size, V], "f32", "logits");
  const calls: Call[] = [];
  const { finalNorm: weight } = model;
  for (const c of chunksOf(N, capacity, size)) {
    const { first, rows, N: live } = c;
    const own: Call[] = [];
    const input = rowsOf(x, first, rows);
    const hn = tensor(`final norm[${first}]`, [rows, D]);
    const norm = { rows: live, D, eps };
    const loss = { logits, labels: stream.labels, token_loss: stream.tokenLoss };
    const lossSizes = { N: live, V, row: first };
    own.push(callRmsNormForward("final norm", { x: input, weight, y: hn }, norm));
    own.push(...logitsCalls(model, hn, logits, live, 0, half && "split"));
    if (!gradient) {
      calls.push(...inChunk(c, [...own, callCrossEntropyForward("loss", loss, lossSizes)]));
      continue;
    }
    own.push(callCrossEntropyBackward("loss", { ...loss, step: stream.step }, lossSizes));
    const dHn = tensor(`d_final norm[${first}]`, [rows, D]);
    for (const { firstRow, weight: part } of model.head) {
      const more = firstRow > 0 ? { accumulate: true } : {};
      own.push(
        callProductBackward(
          "head dX",
          { dy: logits, weight: part, dx: dHn },
          { N: live, dyColumn: firstRow, dyStride: V, half, ...more },
        ),
      );
    }
    const dx = rowsOf(gradient, first, rows);
    own.push(callRmsNormBackward("final norm", { x: input, weight, dy: dHn, dx }, norm));
    calls.push(...inChunk(c, own));
  }
  calls.push(callSumLoss("loss sum", { token_loss: stream.tokenLoss, totals: stream.totals }, { N }));
  return calls;
}

/** The first layer that has an adapter: backward ends there. */
export const lowestTrained = ({ layers }: Pick<ModelTensors, "layers">): number =>
  Math.max(
    0,
    layers.findIndex((w) => Object.values(w.linears).some((l) => l.adapter)),
  );

/** One micro-batch: loss sum into totals[0], gradients added to the arenas. */
export function microBatchProgram(model: ModelTensors, stream: StreamTensors, sizes: BuildSizes): Program {
  const ctx = streamContext(model, stream, sizes);
  const kept = KEPT[sizes.checkpointing];
  const last = model.layers.length;
  const lowest = lowestTrained(model);
  const checkpoints = checkpointsOf(ctx, last, lowest);
  const calls: Call[] = [
    ...residentRowNorms(model),
    ...inputCalls(model, stream, ctx, checkpoints.stream(0)),
  ];
  const layers = layerStream(model);
  for (const w of model.layers) {
    const [x, next] = [checkpoints.stream(w.layer), checkpoints.stream(w.layer + 1)];
    calls.push(
      ...checkpoints.save(w.layer),
      ...layers.bring(w.layer, w.layer + 1),
      ...layers.rowNorms(w.layer),
      ...layerForward(ctx, w, x, next, w.layer < lowest ? KEEP_NONE : kept),
    );
  }
  const gradient = tensor("gradient of the stream", [ctx.capacity, model.arch.hidden]);
  calls.push(...headCalls(model, stream, ctx, checkpoints.stream(last), gradient));
  for (const w of model.layers.toReversed()) {
    if (w.layer < lowest) break;
    calls.push(
      ...layers.bring(w.layer, Math.max(w.layer - 1, lowest)),
      ...layers.bringGradients(w.layer),
      ...layerBackward(ctx, w, checkpoints, kept, gradient, w.layer > lowest),
      ...layers.keepGradients(w.layer),
    );
  }
  return { name: "micro-batch", calls };
}

/** Loss only: nothing is kept, the stream is changed in place. */
export function evaluationProgram(model: ModelTensors, stream: StreamTensors, sizes: BuildSizes): Program {
  const ctx = streamContext(model, stream, sizes);
  const x = tensor("stream", [ctx.capacity, model.arch.hidden]);
  const calls: Call[] = [...residentRowNorms(model), ...inputCalls(model, stream, ctx, x)];
  const layers = layerStream(model);
  for (const w of model.layers) {
    calls.push(...layers.bring(w.layer, w.layer + 1), ...layers.rowNorms(w.layer));
    calls.push(...layerForward(ctx, w, x, x, KEEP_NONE));
  }
  calls.push(...headCalls(model, stream, ctx, x, undefined));
  return { name: "evaluation", calls };
}
