/** The optimizer program: gradient norm, clipping, AdamW over the adapter arenas; and the scalars it reads. */
import type { AdapterLayout } from "../adapter/layout.js";
import { callAdamw, callClip, callGradientNorm, NORM_PARTIALS } from "../kernels/adamw.js";
import type { StreamTensors } from "../model/programs.js";
import type { Program } from "../program/kernel.js";
import { tensor } from "../program/tensor.js";

/** One optimizer step over all arenas. Gradients are zero afterwards. */
export function optimizerProgram(layout: AdapterLayout, stream: StreamTensors): Program {
  const { step, totals } = stream;
  const partials = tensor("norm partials", [layout.arenas.length * NORM_PARTIALS], "f32", "staging");
  return {
    name: "optimizer",
    calls: [
      ...layout.arenas.map((arena, slot) =>
        callGradientNorm(
          `gradient norm ${slot}`,
          { gradient: arena.gradient, partials },
          { count: arena.elements, slot },
        ),
      ),
      callClip("clip", { partials, step, totals }, { count: layout.arenas.length * NORM_PARTIALS }),
      ...layout.arenas.map((arena) =>
        callAdamw(
          `adamw ${arena.parameter.name}`,
          {
            parameter: arena.parameter,
            gradient: arena.gradient,
            first_moment: arena.firstMoment,
            second_moment: arena.secondMoment,
            step,
            totals,
          },
          { count: arena.elements, decayEnd: arena.decayEnd },
        ),
      ),
    ],
  };
}

export const BETA1 = 0.9;
export const BETA2 = 0.999;
export const EPSILON = 1e-8;

/**
 * The scalars of one optimizer step as the kernels read them (f32 [16]).
 * @param s.step counted from 0
 * @param s.scored label tokens of all micro-batches of the step
 */
export function stepScalars(s: {
  readonly step: number;
  readonly scored: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly maxGradNorm: number;
}): Float32Array {
  const t = s.step + 1;
  return Float32Array.from([
    s.scored > 0 ? 1 / s.scored : 0,
    s.learningRate,
    1 - BETA1 ** t,
    1 - BETA2 ** t,
    s.weightDecay,
    EPSILON,
    s.maxGradNorm,
    BETA1,
    BETA2,
    1 - BETA1,
    1 - BETA2,
    0,
    0,
    0,
    0,
    0,
  ]);
}
