/** Cross-entropy over the vocabulary, a chunk of tokens at a time; in backward the gradient overwrites the logits. */
import { bound, grid1d, option, size, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { laneVariants, softwareLanes } from "./elements.js";

const LANES = 256;
/** Terms of a lane that are added by themselves first: a sum of all of them in f32 would lose digits. */
const TERMS = 64;
/** Elements of `totals` and `step`; see src/kernels/adamw.ts. */
const LOSS_SUM = 0;
const PER_LABEL = 0;

function crossEntropy(name: string, isBackward: boolean): Kernel {
  return {
    name,
    bindings: { labels: "read", step: "read", logits: isBackward ? "update" : "read", token_loss: "write" },
    variants: laneVariants(
      "row",
      { file: "cross_entropy.wgsl", grid: (call) => grid1d(size(call, "N")) },
      (call, traits) => ({ ...call.options, LANES: softwareLanes(traits), TERMS }),
      (call) => ({ ...call.options, LANES, TERMS }),
    ),
    twin(memory, call) {
      const [labels, logits, loss] = [
        bound(memory, "labels"),
        bound(memory, "logits"),
        bound(memory, "token_loss"),
      ];
      const [V, row] = [size(call, "V"), size(call, "row")];
      for (let t = 0; t < size(call, "N"); t++) {
        const label = labels[row + t]!;
        const values = logits.subarray(t * V, (t + 1) * V);
        if (label < 0) {
          loss[row + t] = 0;
          if (option(call, "BACKWARD")) values.fill(0);
          continue;
        }
        let top = -Infinity;
        for (const v of values) top = Math.max(top, v);
        let sum = 0;
        for (const v of values) sum += Math.exp(v - top);
        loss[row + t] = Math.log(sum) - (values[label]! - top);
        if (!option(call, "BACKWARD")) continue;
        const scale = bound(memory, "step")[PER_LABEL]!;
        for (let i = 0; i < V; i++)
          values[i] = (Math.exp(values[i]! - top) / sum - (i === label ? 1 : 0)) * scale;
      }
    },
    cost: (call) => {
      const count = size(call, "N") * size(call, "V");
      return { flops: (isBackward ? 8 : 4) * count, bytes: (isBackward ? 8 : 4) * count };
    },
  };
}

export const crossEntropyForward = crossEntropy("cross_entropy_forward", false);
export const crossEntropyBackward = crossEntropy("cross_entropy_backward", true);

interface LossTensors {
  readonly logits: Tensor;
  readonly labels: Tensor;
  readonly token_loss: Tensor;
}

interface LossSizes {
  readonly N: number;
  readonly V: number;
  readonly row: number;
}

/**
 * token_loss[row + t] = -log softmax(logits[t])[labels[row + t]], 0 where the label is negative.
 * @param t.logits f32 [N, V]
 * @param t.labels i32 [tokens], already shifted
 * @param t.token_loss f32 [tokens]
 */
export function callCrossEntropyForward(label: string, t: LossTensors, s: LossSizes): Call {
  return {
    kernel: crossEntropyForward,
    label,
    tensors: { ...t },
    sizes: { ...s },
    options: { VEC4: s.V % 4 === 0 },
  };
}

/** As forward, and logits become their gradient: (softmax - onehot) * step[0], zero where the label is negative. */
export function callCrossEntropyBackward(
  label: string,
  t: LossTensors & { readonly step: Tensor },
  s: LossSizes,
): Call {
  return {
    kernel: crossEntropyBackward,
    label,
    tensors: { ...t },
    sizes: { ...s },
    options: { BACKWARD: true, VEC4: s.V % 4 === 0 },
  };
}

export const sumLoss: Kernel = {
  name: "sum_loss",
  bindings: { token_loss: "read", totals: "update" },
  variants: [
    {
      name: "one workgroup",
      file: "sum_loss.wgsl",
      accepts: () => true,
      defines: () => ({ LANES }),
      grid: () => [1, 1, 1],
    },
  ],
  twin(memory, call) {
    const [loss, totals] = [bound(memory, "token_loss"), bound(memory, "totals")];
    let sum = 0;
    for (let t = 0; t < size(call, "N"); t++) sum += loss[t]!;
    totals[LOSS_SUM] = totals[LOSS_SUM]! + sum;
  },
  cost: (call) => ({ flops: size(call, "N"), bytes: 4 * size(call, "N") }),
};

/** totals[0] += sum of token_loss[0 .. N]. */
export function callSumLoss(
  label: string,
  t: { readonly token_loss: Tensor; readonly totals: Tensor },
  s: { readonly N: number },
): Call {
  return { kernel: sumLoss, label, tensors: { ...t }, sizes: s, options: {} };
}
