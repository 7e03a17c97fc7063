/**
 * How long sums are spread over the lanes of a workgroup on real GPUs. A lane that adds alone waits for memory again and again, and
 * adapters are too narrow for so many results that others would work meanwhile. Lanes are always added in the same order.
 */
import type { Variant } from "../program/kernel.js";

/** Of every workgroup: what WebGPU promises everywhere. */
export const SPLIT_LANES = 256;

/** Workgroups of all lanes with which a large GPU has something to do everywhere: an RTX 4090 has 128 SMs, an H100 132. */
export const ENOUGH_WORKGROUPS = 128;

/** What a variant for real GPUs says of a software adapter, which is never idle and pays for every barrier. */
export const isTimed: Variant["isTimed"] = (traits) => !traits.isSoftware;

/** A sum over tokens for each of many columns: LANES columns side by side, ROWS of lanes that share the tokens, TOKENS at a time. */
export interface SharedTokens {
  readonly LANES: number;
  readonly ROWS: number;
  readonly TOKENS: number;
}

/**
 * Whole cache lines of 32 columns where that makes workgroups enough, else half of them.
 * @param others workgroups for the same columns
 */
export function sharedTokens(columns: number, others = 1): SharedTokens {
  const LANES = Math.ceil(columns / 32) * others >= ENOUGH_WORKGROUPS ? 32 : 16;
  return { LANES, ROWS: SPLIT_LANES / LANES, TOKENS: 4 };
}
