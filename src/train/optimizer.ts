/** The optimizer program: gradient norm, clipping, AdamW over the adapter arenas; and the scalars and tables it reads. */
import { stateTensors, type AdapterArena, type AdapterLayout } from "../adapter/layout.js";
import { MOMENT_MAPS, MOMENT_MAP_VALUES, wholeMoments, type MomentBits } from "../adapter/moments.js";
import { callAdamw, callClip, callGradientNorm, NORM_PARTIALS } from "../kernels/adamw.js";
import { callAdamw8bit } from "../kernels/adamw8bit.js";
import type { StreamTensors } from "../model/programs.js";
import { updatedArena, type LayerRing } from "../model/ring.js";
import type { Call, Program } from "../program/kernel.js";
import { tensor, type Tensor } from "../program/tensor.js";
import { callDownload, callUpload } from "../program/transfer.js";

export type OptimizerName = "adamw" | "adamw8bit";

/** What the moments of A and B are kept in; those of magnitudes are f32 always. */
export const MOMENT_BITS: Readonly<Record<OptimizerName, MomentBits>> = { adamw: 32, adamw8bit: 8 };

/**
 * One optimizer step over all arenas. Gradients are zero afterwards.
 * @param ring streamed layers, whose state comes from the host and goes back there
 */
export function optimizerProgram(
  layout: AdapterLayout,
  stream: StreamTensors,
  ring: LayerRing | undefined,
): Program {
  const { step, totals } = stream;
  const states = layout.arenas.map((arena) => arenaState(arena, ring));
  const partials = tensor("norm partials", [layout.arenas.length * NORM_PARTIALS], "f32", "staging");
  return {
    name: "optimizer",
    calls: [
      ...states.flatMap(({ arena, bringGradient }, slot) => [
        ...bringGradient,
        callGradientNorm(
          `gradient norm ${slot}`,
          { gradient: arena.gradient, partials },
          { count: arena.elements, slot },
        ),
      ]),
      callClip("clip", { partials, step, totals }, { count: layout.arenas.length * NORM_PARTIALS }),
      ...states.flatMap(({ arena, bring, keep }) => [
        ...bring,
        ...updateCalls(arena, { step, totals }),
        ...keep,
      ]),
    ],
  };
}

/** An arena as the optimizer finds it, and what brings it there. */
interface ArenaState {
  readonly arena: AdapterArena;
  readonly bringGradient: readonly Call[];
  readonly bring: readonly Call[];
  readonly keep: readonly Call[];
}

function arenaState(arena: AdapterArena, ring: LayerRing | undefined): ArenaState {
  if (!ring?.arenas.has(arena.layer)) return { arena, bringGradient: [], bring: [], keep: [] };
  const here = updatedArena(arena, ring);
  const label = `layers.${arena.layer} state`;
  const kept = stateTensors(arena);
  const places = stateTensors(here).map((t, i) => [t, kept[i] as Tensor] as const);
  return {
    arena: here,
    bringGradient: [callUpload(label, here.gradient, arena.gradient.name)],
    bring: places.map(([t, { name }]) => callUpload(label, t, name)),
    keep: places.map(([t, { name }]) => callDownload(label, t, name)),
  };
}

/** AdamW over one arena: in one call, or in 8 bits over the factors and in f32 over the magnitudes. */
function updateCalls(
  arena: AdapterArena,
  scalars: { readonly step: Tensor; readonly totals: Tensor },
): readonly Call[] {
  const { parameter, gradient, moments, elements, decayEnd } = arena;
  const label = `adamw ${parameter.name}`;
  if (moments.bits === 32) {
    const tensors = { parameter, gradient, first_moment: moments.first, second_moment: moments.second };
    return [callAdamw(label, { ...tensors, ...scalars }, { count: elements, decayEnd })];
  }
  const { codes, absmax, magnitudes } = moments;
  const factors = callAdamw8bit(
    label,
    { parameter, gradient, codes, absmax, maps: MOMENT_MAPS, ...scalars },
    { count: decayEnd },
  );
  if (!magnitudes) return [factors];
  const { first: first_moment, second: second_moment } = magnitudes;
  const tail = {
    parameter: magnitudes.parameter,
    gradient: magnitudes.gradient,
    first_moment,
    second_moment,
  };
  return [
    factors,
    callAdamw(
      `adamw ${tail.parameter.name}`,
      { ...tail, ...scalars },
      { count: magnitudes.elements, decayEnd: 0 },
    ),
  ];
}

/** All that the optimizer remembers, by tensor name. */
export function momentTensors({ arenas }: AdapterLayout): ReadonlyMap<string, Tensor> {
  const maps = arenas.some(({ moments }) => moments.bits === 8) ? [MOMENT_MAPS] : [];
  const all = [...maps, ...arenas.flatMap(({ moments }) => wholeMoments(moments))];
  return new Map(all.map((t) => [t.name, t]));
}

/** What the host writes once before the first step. */
export const optimizerTables = (layout: AdapterLayout): readonly (readonly [Tensor, Float32Array])[] =>
  layout.arenas.some((arena) => arena.moments.bits === 8) ? [[MOMENT_MAPS, MOMENT_MAP_VALUES]] : [];

export const BETA1 = 0.9;
export const BETA2 = 0.999;
export const EPSILON = 1e-8;

/**
 * The scalars of one optimizer step as the kernels read them (f32 [16]).
 * @param s.step updates that the moments have had
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
