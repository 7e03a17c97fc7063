/** All kernels: what tests go through, so that none is without a twin, a cost and a variant for any adapter. */
import type { Kernel } from "../program/kernel.js";
import { adamw, clip, gradientNorm } from "./adamw.js";
import { adamw8bit } from "./adamw8bit.js";
import { attentionBackwardKv, attentionBackwardQ, attentionDelta, attentionForward } from "./attention.js";
import { convertRows } from "./convert_rows.js";
import { copyRows } from "./copy_rows.js";
import { crossEntropyBackward, crossEntropyForward, sumLoss } from "./cross_entropy.js";
import { doraBackward } from "./dora.js";
import { adapterGram, doraRowNorm } from "./dora_row_norm.js";
import { embeddingGather, embeddingGatherAdd } from "./embedding.js";
import { lowrankDown, lowrankGradient } from "./lowrank.js";
import { nf4Quantize } from "./nf4_quantize.js";
import {
  denseProductBackward,
  denseProductBackwardAdd,
  denseProductForward,
  int8ProductBackward,
  int8ProductBackwardAdd,
  int8ProductForward,
  nf4ProductBackward,
  nf4ProductBackwardAdd,
  nf4ProductForward,
} from "./product.js";
import { rmsNormBackward, rmsNormBackwardAdd, rmsNormForward } from "./rms_norm.js";
import { attentionStore, rope } from "./rope.js";
import { swigluBackward, swigluBackwardMagnitudes, swigluForward } from "./swiglu.js";

export const ALL_KERNELS: readonly Kernel[] = [
  embeddingGather,
  embeddingGatherAdd,
  copyRows,
  convertRows,
  rmsNormForward,
  rmsNormBackward,
  rmsNormBackwardAdd,
  rope,
  attentionStore,
  swigluForward,
  swigluBackward,
  swigluBackwardMagnitudes,
  nf4ProductForward,
  nf4ProductBackward,
  nf4ProductBackwardAdd,
  int8ProductForward,
  int8ProductBackward,
  int8ProductBackwardAdd,
  denseProductForward,
  denseProductBackward,
  denseProductBackwardAdd,
  nf4Quantize,
  lowrankDown,
  lowrankGradient,
  adapterGram,
  doraRowNorm,
  doraBackward,
  attentionForward,
  attentionDelta,
  attentionBackwardQ,
  attentionBackwardKv,
  crossEntropyForward,
  crossEntropyBackward,
  sumLoss,
  gradientNorm,
  clip,
  adamw,
  adamw8bit,
];

/** The names of all their variants: what `QDORA_VARIANT` may be. */
export const VARIANT_NAMES: ReadonlySet<string> = new Set(
  ALL_KERNELS.flatMap(({ variants }) => variants.map(({ name }) => name)),
);
