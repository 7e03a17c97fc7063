/** The shape of the tiled attention kernels: how many lanes share a row, so that a lane's sums fit its registers. */
import type { AdapterTraits } from "../gpu/traits.js";
import { option, type Call, type Defines } from "../program/kernel.js";
import { smallestSubgroup } from "./subgroup_size.js";

/** Queries and keys of a tile, see attention_tile.wgsl. */
export const TILE = 32;

/** Sums and scores of a lane beyond which Intel's compiler spilled. */
const MOST_NUMBERS = 48;

/** Workgroup memory by SPLIT: operands, weights, values and partial results. */
const workgroupBytes = (split: number, results: number): number =>
  4096 * split + 4096 * results + 4096 + 1024 * split;

/**
 * @param results tensors of head dimension that a row of lanes sums up: o, d_q, or d_k and d_v
 * @param isBackward whether there are two kinds of scores at a time, probabilities and their gradients
 */
export function attentionTile(
  call: Call,
  traits: AdapterTraits,
  results: 1 | 2,
  isBackward: boolean,
): Defines {
  const scores = (split: number): number => (isBackward ? 2 : 1) * (16 / split);
  const numbers = (split: number): number =>
    16 * results * Math.ceil(option(call, "HEAD_DIM") / (32 * split)) + scores(split);
  const fits = (split: number): boolean =>
    workgroupBytes(split, results) <= traits.maxWorkgroupBytes &&
    64 * split <= traits.maxWorkgroupInvocations;
  const possible = [1, 2, 4].filter((split) => split === 1 || fits(split));
  const SPLIT = possible.find((split) => numbers(split) <= MOST_NUMBERS) ?? Math.max(...possible);
  return { SPLIT, SUBGROUP_SIZE: smallestSubgroup(traits) };
}
