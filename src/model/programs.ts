/** The programs of a training run: one micro-batch forward and backward, evaluation. Plain lists of calls. */
import { callCrossEntropyBackward, callCrossEntropyForward, callSumLoss } from "../kernels/cross_entropy.js";
import { callEmbeddingGather } from "../kernels/embedding.js";
import { callProductBackward, callProductForward } from "../kernels/product.js";
import { callRmsNormBackward, callRmsNormForward } from "../kernels/rms_norm.js";
import type { Call, Program } from "../program/kernel.js";
import { tensor, type Tensor } from "../program/tensor.js";
import {
  KEEP_ALL,
  KEEP_ATTENTION,
  KEEP_NONE,
  layerBackward,
  layerForward,
  layerRowNorms,
  type Kept,
  type LayerActivations,
  type StreamContext,
} from "./layer.js";
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
}

const KEPT: Record<GradientCheckpointing, Kept> = {
  full: KEEP_NONE,
  selective: KEEP_ATTENTION,
  none: KEEP_ALL,
};

/** Bytes of logits that exist at a time. */
const LOGITS_BYTES = 24 << 20;

/** Tokens whose logits are computed together: a multiple of 32 that fits the budget, at least 32. */
export const logitsRows = (vocab: number, capacity: number): number =>
  Math.min(capacity, Math.max(32, Math.floor(LOGITS_BYTES / (4 * vocab) / 32) * 32));

function context(model: ModelTensors, stream: StreamTensors, sizes: BuildSizes): StreamContext {
  const { N, capacity } = sizes;
  return {
    arch: model.arch,
    N,
    capacity,
    positions: stream.positions,
    spans: stream.spans,
    ropeTable: model.ropeTable,
    ropeScale: model.arch.rope.attentionFactor,
  };
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

/** logits of `rows` tokens from token `row` on. */
export function logitsCalls(
  model: ModelTensors,
  hn: Tensor,
  logits: Tensor,
  rows: number,
  row: number,
): readonly Call[] {
  return model.head.map(({ firstRow, weight }) =>
    callProductForward(
      "head",
      { x: hn, weight, y: logits },
      { N: rows, xRow: row, yColumn: firstRow, yStride: model.arch.vocab },
    ),
  );
}

/** Final norm, then head and loss over chunks of tokens; with `dHn` the chunk's gradient overwrites its logits and goes back. */
function headCalls(
  model: ModelTensors,
  stream: StreamTensors,
  sizes: BuildSizes,
  x: Tensor,
  dHn: Tensor | undefined,
  prefix: string,
): readonly Call[] {
  const { vocab: V, hidden: D, normEps: eps } = model.arch;
  const { N, capacity } = sizes;
  const chunk = logitsRows(V, capacity);
  const hn = tensor(`${prefix}final norm`, [capacity, D]);
  const logits = tensor(`${prefix}logits`, [chunk, V], "f32", "logits");
  const calls: Call[] = [
    callRmsNormForward("final norm", { x, weight: model.finalNorm, y: hn }, { rows: N, D, eps }),
  ];
  for (let row = 0; row < capacity; row += chunk) {
    const rows = Math.min(Math.max(N - row, 0), chunk);
    const loss = { logits, labels: stream.labels, token_loss: stream.tokenLoss };
    const lossSizes = { N: rows, V, row };
    calls.push(...logitsCalls(model, hn, logits, rows, row));
    if (!dHn) {
      calls.push(callCrossEntropyForward("loss", loss, lossSizes));
      continue;
    }
    calls.push(callCrossEntropyBackward("loss", { ...loss, step: stream.step }, lossSizes));
    for (const { firstRow, weight } of model.head) {
      calls.push(
        callProductBackward(
          "head dX",
          { e: logits, weight, dx: dHn },
          {
            N: rows,
            eColumn: firstRow,
            eStride: V,
            dxRow: row,
            ...(firstRow > 0 && { accumulate: true }),
          },
        ),
      );
    }
  }
  calls.push(callSumLoss("loss sum", { token_loss: stream.tokenLoss, totals: stream.totals }, { N }));
  return calls;
}

/** One micro-batch: loss sum into totals[0], gradients added to the arenas. */
export function microBatchProgram(model: ModelTensors, stream: StreamTensors, sizes: BuildSizes): Program {
  const ctx = context(model, stream, sizes);
  const { N, capacity } = sizes;
  const D = model.arch.hidden;
  const eps = model.arch.normEps;
  const kept = KEPT[sizes.checkpointing];
  const keepsAll = kept === KEEP_ALL;
  const input = (layer: number): Tensor => tensor(`input.${layer}`, [capacity, D], "f32", "checkpoint");
  const calls: Call[] = [...embeddingCalls(model, stream.tokens, input(0), N)];
  const activations: LayerActivations[] = [];
  for (const w of model.layers) {
    const walk = layerForward(ctx, w, input(w.layer), input(w.layer + 1), "forward", kept);
    calls.push(...layerRowNorms(w), ...walk.calls);
    activations.push(walk.activations);
  }
  const last = model.layers.length;
  const dHn = tensor("d_final norm", [capacity, D]);
  calls.push(...headCalls(model, stream, sizes, input(last), dHn, ""));
  let dNext = tensor(`d_input.${last}`, [capacity, D]);
  calls.push(
    callRmsNormBackward(
      "final norm",
      { x: input(last), weight: model.finalNorm, dy: dHn, dx: dNext },
      { rows: N, D, eps },
    ),
  );
  const lowest = model.layers.findIndex((w) => Object.values(w.linears).some((l) => l.adapter));
  for (const w of model.layers.toReversed()) {
    if (w.layer < lowest) break;
    const [x, next] = [input(w.layer), input(w.layer + 1)];
    let a = activations[w.layer] as LayerActivations;
    if (!keepsAll) {
      const again = layerForward(ctx, w, x, next, "again", kept);
      calls.push(...again.calls);
      a = again.activations;
    }
    const dX = w.layer > lowest ? tensor(`d_input.${w.layer}`, [capacity, D]) : undefined;
    calls.push(...layerBackward(ctx, w, a, { x, next, dNext, ...(dX && { dX }) }));
    if (dX) dNext = dX;
  }
  return { name: "micro-batch", calls };
}

/** Loss only: nothing is kept, so two inputs take turns. */
export function evaluationProgram(model: ModelTensors, stream: StreamTensors, sizes: BuildSizes): Program {
  const ctx = context(model, stream, sizes);
  const input = (layer: number): Tensor => tensor(`eval.input.${layer}`, [sizes.capacity, model.arch.hidden]);
  const calls: Call[] = [...embeddingCalls(model, stream.tokens, input(0), sizes.N)];
  for (const w of model.layers) {
    calls.push(
      ...layerRowNorms(w),
      ...layerForward(ctx, w, input(w.layer), input(w.layer + 1), "forward", KEEP_NONE).calls,
    );
  }
  calls.push(...headCalls(model, stream, sizes, input(model.layers.length), undefined, "eval."));
  return { name: "evaluation", calls };
}
