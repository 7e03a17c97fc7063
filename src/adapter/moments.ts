/**
 * Adam's moments of one arena. In 32 bits they have the arena's layout. In 8 bits factors have codes and block maxima
 * (2.03 bytes a parameter for both moments instead of 8), magnitudes keep f32. Unlike bitsandbytes, which leaves tensors
 * under 4,096 elements in 32 bits, all factors are in 8 bits; like there, no block spans two tensors.
 */
import { MOMENT_BLOCK } from "../kernels/adamw8bit.js";
import { tensor, type Tensor } from "../program/tensor.js";
import { DYNAMIC_MAP, UNSIGNED_DYNAMIC_MAP } from "../quant/dynamic.js";

export type MomentBits = 8 | 32;

/** Parameters with their gradients and f32 moments, as one call of AdamW takes them. */
export interface FloatState {
  readonly elements: number;
  readonly parameter: Tensor;
  readonly gradient: Tensor;
  readonly first: Tensor;
  readonly second: Tensor;
}

export interface FloatMoments {
  readonly bits: 32;
  /** [elements] f32 */
  readonly first: Tensor;
  /** [elements] f32 */
  readonly second: Tensor;
}

export interface ByteMoments {
  readonly bits: 8;
  /** [2, decayEnd] u8: first moments, second moments. */
  readonly codes: Tensor;
  /** [2, decayEnd / 256] f32 */
  readonly absmax: Tensor;
  /** Where the arena has magnitudes. */
  readonly magnitudes?: FloatState;
}

export type ArenaMoments = FloatMoments | ByteMoments;

/** All tensors of an arena's moments. */
export function wholeMoments(moments: ArenaMoments): readonly Tensor[] {
  if (moments.bits === 32) return [moments.first, moments.second];
  const { codes, absmax, magnitudes } = moments;
  return [codes, absmax, ...(magnitudes ? [magnitudes.first, magnitudes.second] : [])];
}

/** Factors start at multiples of this, in f32 elements: with 8-bit moments where a block starts, else where a binding may. */
export const factorAlign = (bits: MomentBits): number => (bits === 8 ? MOMENT_BLOCK : BINDING_ALIGN);

/** f32 elements in 256 bytes, the portable alignment of a binding's offset. */
export const BINDING_ALIGN = 64;

/** [2, 256] f32: the map of first moments and that of second moments, shared by all arenas. */
export const MOMENT_MAPS = tensor("moment maps", [2, 256], "f32", "moment");
export const MOMENT_MAP_VALUES: Float32Array = Float32Array.of(...DYNAMIC_MAP, ...UNSIGNED_DYNAMIC_MAP);

export function floatMoments(layer: number, elements: number): FloatMoments {
  return {
    bits: 32,
    first: tensor(`first moment.${layer}`, [elements], "f32", "moment"),
    second: tensor(`second moment.${layer}`, [elements], "f32", "moment"),
  };
}

/** @param arena its tensors as a whole; magnitudes are the elements from decayEnd on */
export function byteMoments(
  layer: number,
  arena: {
    readonly parameter: Tensor;
    readonly gradient: Tensor;
    readonly decayEnd: number;
    readonly elements: number;
  },
): ByteMoments {
  const { decayEnd } = arena;
  const blocks = decayEnd / MOMENT_BLOCK;
  const elements = arena.elements - decayEnd;
  const tail = ({ name, kind }: Tensor): Tensor =>
    tensor(`${name}.magnitudes`, [elements], "f32", kind, {
      name,
      bytes: arena.elements * 4,
      offsetBytes: decayEnd * 4,
    });
  const moments = {
    bits: 8,
    codes: tensor(`moment codes.${layer}`, [2, decayEnd], "u8", "moment"),
    absmax: tensor(`moment absmax.${layer}`, [2, blocks], "f32", "moment"),
  } as const;
  if (elements === 0) return moments;
  return {
    ...moments,
    magnitudes: {
      elements,
      parameter: tail(arena.parameter),
      gradient: tail(arena.gradient),
      first: tensor(`first moment.${layer}`, [elements], "f32", "moment"),
      second: tensor(`second moment.${layer}`, [elements], "f32", "moment"),
    },
  };
}
