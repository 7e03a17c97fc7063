/**
 * The shape of a tile of product_software.wgsl: rows of tokens, columns on lanes, terms a round. Estimated in instructions, as they
 * stand in the machine code that LLVM makes for lavapipe.
 */
import type { AdapterTraits } from "../gpu/traits.js";
import { option, size, type Call } from "../program/kernel.js";
import { isF32 } from "./product_layout.js";

export interface SoftwareShape {
  readonly LANES: number;
  /** Columns of a lane. */
  readonly COLS: number;
  readonly ROWS: number;
  /** Terms of the sums in one round of the inner loop. */
  readonly UNROLL: number;
}

const LANES = [32, 64, 96, 128, 192, 256];
/**
 * NF4 backward: a subgroup's columns are neighbours whose codes come with one vector load, so their number is a power of two; 48 and
 * 144 lanes make tiles of 192 and 576 columns.
 */
const NEIGHBOUR_LANES = [32, 48, 64, 128, 144, 256];

/** Instructions that one value of the tokens' tile costs a subgroup: address, bounds, load. */
const TOKEN = 6;
/** And to bring it there, for each lane of a subgroup. */
const STAGING = 2;
/** Reading, writing and masking a sum, once a round. */
const SUM = 3;
/**
 * Instructions that weights for a vector of lanes cost: loaded together and selected, and loaded by each lane for itself, which takes the
 * time of so many.
 */
const WEIGHTS = {
  forward: { nf4: [16, 27], int8: [30, 19], half: [55, 32], f32: [110, 60] },
  backward: { nf4: [10, 26], int8: [22, 64], half: [40, 64], f32: [71, 60] },
} as const;
const MOST_OWN_CODE = 24;
const BITS = { nf4: 4, int8: 8, half: 16, f32: 32 } as const;

/** Beyond, the inner loop's code leaves the caches of instructions. */
const MOST_INSTRUCTIONS = 5250;
/** Rows of tokens, and sums, beyond which these leave the first data cache; rows of f32 are so dear to fetch that more sums pay. */
const MOST_ROWS = 64;
const MOST_SUMS = 224;
const MOST_SUMS_F32 = 256;
/** Bytes after which addresses fall into the same set of the first and second data cache, lines in a set, of which sums take half. */
const CACHES = [
  { period: 4096, lines: 8 },
  { period: 65536, lines: 32 },
] as const;
const LINE = 64;
/** Larger matrices come from memory for each tile of rows. */
const CACHED_BYTES = 16e6;
const CORES = 2;

export const isBackward = (call: Call): boolean => option(call, "BACKWARD") === 1;
/** A subgroup's columns are neighbours in a row of W. */
export const hasNeighbours = (call: Call): boolean => isBackward(call) && Boolean(option(call, "NF4"));
/** With vectors of 512 bits each lane loads its own weights: processors that have them gather. */
export const loadsOwn = (traits: AdapterTraits): boolean => traits.subgroupMaxSize === 16;

function weightFormat(call: Call): keyof typeof BITS {
  if (option(call, "NF4")) return "nf4";
  if (option(call, "INT8")) return "int8";
  return isF32(call) ? "f32" : "half";
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/** From how far weights come: 1 where caches hold them, one more for each that does not. @param columns of a subgroup, and of a tile */
function distance(call: Call, traits: AdapterTraits, columns: readonly [number, number]): number {
  const [K, M] = [size(call, "K"), size(call, "M")];
  const bytes = BITS[weightFormat(call)] / 8;
  const isMemory = K * M * bytes > CACHED_BYTES;
  if (isBackward(call) || !loadsOwn(traits)) return 1 + Number(isMemory);
  // Rows of W that lie a multiple of the period apart want the same sets.
  const crowded = CACHES.filter(({ period, lines }, i) => {
    const sets = Math.min(period / LINE, period / commonDivisor(K * bytes, period));
    return (columns[i] ?? 0) / sets > lines;
  });
  return 1 + crowded.length + Number(isMemory);
}

/** Rows of a tile for N tokens: whole vec4 of few padded rows. */
function rowChoices(N: number, most: number): number[] {
  if (N <= 8) return [N > 1 ? 8 : 1];
  const fewestTiles = Math.ceil(N / most);
  return [...new Set([0, 1, 2].map((more) => Math.ceil(N / (fewestTiles + more) / 4) * 4))];
}

/**
 * The tile with the least estimated work: padded rows and columns cost as much as real ones; fetching weights is shared by the rows,
 * fetching tokens by the columns; few workgroups leave cores idle.
 */
export function softwareShape(call: Call, traits: AdapterTraits): SoftwareShape {
  const N = Math.max(1, size(call, "N"));
  const M = size(call, "M");
  const S = traits.subgroupMaxSize;
  const format = weightFormat(call);
  const [shared, own] = WEIGHTS[isBackward(call) ? "backward" : "forward"][format];
  const neighbours = hasNeighbours(call);
  // A word of codes or a vector of packed values holds eight terms of a row of W, a vec4 four.
  const UNROLL = isBackward(call) || format === "f32" ? 4 : 8;
  let best: SoftwareShape = { UNROLL, ROWS: 8, LANES: 32, COLS: neighbours ? 2 : 1 };
  let least = Infinity;
  const sums = format === "f32" && !isBackward(call) ? MOST_SUMS_F32 : MOST_SUMS;
  // Four columns of eight terms run at half the speed in some shapes.
  for (const COLS of neighbours ? [2, 4] : UNROLL === 8 ? [1, 2, 3] : [1, 2, 3, 4])
    for (const ROWS of rowChoices(N, Math.min(MOST_ROWS, sums / COLS)))
      for (const lanes of neighbours ? NEIGHBOUR_LANES : LANES) {
        if (lanes % S !== 0 || lanes > traits.maxWorkgroupInvocations) continue;
        const round = TOKEN * ROWS + 2 * ROWS * COLS + (SUM * ROWS * COLS) / UNROLL;
        const code = loadsOwn(traits) ? Math.min(own, MOST_OWN_CODE) : shared;
        if (UNROLL * (round + code * COLS) > MOST_INSTRUCTIONS) continue;
        const time = (loadsOwn(traits) ? own : shared) * distance(call, traits, [S * COLS, lanes * COLS]);
        const columns = Math.ceil(M / (lanes * COLS)) * lanes * COLS;
        const groups = (columns / (lanes * COLS)) * Math.ceil(N / ROWS);
        const idle = (Math.ceil(groups / CORES) * CORES) / groups;
        const term = round / COLS + time + (STAGING * S * ROWS) / (lanes * COLS);
        const work = columns * Math.ceil(N / ROWS) * term * idle;
        if (work < least) {
          least = work;
          best = { UNROLL, ROWS, LANES: lanes, COLS };
        }
      }
  return best;
}
