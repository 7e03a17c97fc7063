/** What the variants of the products ask about a call. */
import type { AdapterTraits } from "../gpu/traits.js";
import { option, size, type Call, type Variant } from "../program/kernel.js";

/** With so few tokens the vector variant has no rival. */
export const MOST_VECTOR_TOKENS = 4;

/** Workgroups with which a large GPU has something to do everywhere (an RTX 4090 has 128 SMs and takes two of ours on each). */
const BUSY_WORKGROUPS = 256;

/**
 * A variant with smaller tiles than another one, for calls of which that makes so few workgroups that they may pay, though they load
 * more for each product. A software adapter is never idle.
 */
export function besideLarge(large: Variant, small: Variant): Variant {
  const leavesIdle = (call: Call, traits: AdapterTraits): boolean => {
    const [x, y, z] = large.grid(call, large.defines(call, traits));
    return x * y * z < BUSY_WORKGROUPS;
  };
  return {
    ...small,
    accepts: (call, traits) =>
      size(call, "N") > MOST_VECTOR_TOKENS && small.accepts(call, traits) && leavesIdle(call, traits),
    isTimed: (traits) => !traits.isSoftware,
  };
}

/** Row length of W. */
export const rowLength = (call: Call): number => size(call, option(call, "BACKWARD") ? "M" : "K");

/** Whether two or four values of W share a u32. */
export const isPacked = (call: Call): boolean =>
  Boolean(option(call, "BF16") || option(call, "F16") || option(call, "INT8"));

export const isF32 = (call: Call): boolean => !option(call, "NF4") && !isPacked(call);

/** Whether x can be read as vec4: rows start and end at multiples of four. */
export const hasVec4Rows = (call: Call): boolean =>
  ["xStride", "xColumn", "K"].every((name) => size(call, name) % 4 === 0);

/** Whether rows of W are whole vectors of the widest load: 8 packed values or 4 f32. */
export const hasVec4Weights = (call: Call): boolean => rowLength(call) % (isPacked(call) ? 8 : 4) === 0;

/** Whether rows of B (forward [out, rank], backward [rank, in]) are whole vec4. */
export const hasVec4Low = (call: Call): boolean =>
  size(call, option(call, "BACKWARD") ? "M" : "rank") % 4 === 0;

/** Whether rows of an NF4 weight are whole blocks of whole words. */
export const isAligned = (call: Call): boolean =>
  option(call, "NF4") === 1 && rowLength(call) % 8 === 0 && rowLength(call) % option(call, "BLOCK") === 0;
