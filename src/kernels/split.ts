/**
 * How long sums are spread over the lanes of a workgroup on real GPUs. A lane that adds alone waits for memory again and again, and
 * adapters are too narrow for so many results that others would work meanwhile. Lanes are always added in the same order.
 */
import { option, size, type Call, type Defines, type Variant } from "../program/kernel.js";

/** Of every workgroup: what WebGPU promises everywhere. */
export const SPLIT_LANES = 256;

/** Workgroups of all lanes with which a large GPU has something to do everywhere: an RTX 4090 has 128 SMs, an H100 132. */
const ENOUGH_WORKGROUPS = 128;

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

/**
 * Tokens and ranks: large tiles load less for each product, small ones make more workgroups. With more than four tokens a lane's sums
 * and what it multiplies do not fit Intel's registers.
 */
const LARGER_TILES = [
  [4, 16],
  [4, 8],
  [2, 8],
] as const;
const SMALLEST_TILE = [1, 4] as const;

const tiles = (call: Call, tokens: number, ranks: number): readonly [number, number, number] => [
  Math.ceil(size(call, "N") / tokens),
  Math.ceil(size(call, "rank") / ranks),
  1,
];

/** The largest tile of which there are enough. */
function downTile(call: Call): Defines {
  const rank = size(call, "rank");
  const widest = rank <= 4 ? 4 : rank <= 8 ? 8 : 16;
  const [TOKENS, RANKS] =
    LARGER_TILES.map(([tokens, ranks]) => [tokens, Math.min(ranks, widest)] as const).find(
      ([tokens, ranks]) => {
        const [x, y] = tiles(call, tokens, ranks);
        return x * y >= ENOUGH_WORKGROUPS;
      },
    ) ?? SMALLEST_TILE;
  return { TOKENS, RANKS };
}

/** p = alpha x w with the sum over K split. */
export const splitDown: Variant = {
  name: "split",
  file: "lowrank_down_split.wgsl",
  accepts: (call) =>
    size(call, "K") % 4 === 0 && (option(call, "COLUMNS") === 0 || size(call, "rank") % 4 === 0),
  isTimed,
  defines: (call): Defines => ({ ...call.options, ...downTile(call), LANES: SPLIT_LANES }),
  grid: (call, d) => tiles(call, Number(d["TOKENS"]), Number(d["RANKS"])),
};
