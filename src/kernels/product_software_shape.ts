/**
 * The shape of a tile of product_software.wgsl: rows of tokens, columns on lanes, terms a round. Costs are instructions of the machine
 * code that LLVM makes for lavapipe (Mesa 26.1), counted and timed on two cores of a Zen 5; where others count otherwise, a tile is
 * slower than it could be, and never wrong.
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

/** Terms of the tokens' tile; blocks of NF4 must be whole multiples of it. */
export const DEPTH = 64;
const LANES = [32, 64, 96, 128, 192, 256];
/**
 * NF4 backward: a subgroup's columns are neighbours whose codes come with one vector load, so their number is a power of two; 48 and
 * 144 lanes make tiles of 192 and 576 columns.
 */
const NEIGHBOUR_LANES = [32, 48, 64, 128, 144, 256];

/** One value of the tokens' tile costs a subgroup an address, bounds and a load. */
const TOKEN = 6;
/** And to bring it there, for each lane of a subgroup. */
const STAGING = 2;
/** One term of one sum: multiply and add. */
const TERM = 2;
/** Reading, masking and writing a sum, once a round. */
const SUM = 3;
/**
 * A term of a vector of lanes' weights: `shared`, loaded for all lanes together and selected by lane; `own`, loaded by each lane for
 * itself, which is less code but takes the time of so many instructions.
 */
const WEIGHTS = {
  forward: {
    nf4: { shared: 16, own: 27 },
    int8: { shared: 30, own: 19 },
    half: { shared: 55, own: 32 },
    f32: { shared: 110, own: 60 },
  },
  backward: {
    nf4: { shared: 10, own: 26 },
    int8: { shared: 22, own: 64 },
    half: { shared: 40, own: 64 },
    f32: { shared: 71, own: 60 },
  },
} as const;
/** The most that `own` is in instructions: NF4's selection of a level. */
const MOST_OWN_CODE = 24;
const BITS = { nf4: 4, int8: 8, half: 16, f32: 32 } as const;

/** Beyond, the inner loop's code leaves the caches of instructions. */
const MOST_CODE = 5250;
/** Rows of tokens, and sums, beyond which these leave the first data cache; rows of f32 are so dear to fetch that more sums pay. */
const MOST_ROWS = 64;
const MOST_SUMS = 224;
const MOST_SUMS_F32 = 256;
/** Addresses that lie a multiple of `period` bytes apart want the same set of a data cache; lines of a set, of which sums take half. */
const FIRST_CACHE = { period: 4096, lines: 8 };
const SECOND_CACHE = { period: 65536, lines: 32 };
const LINE = 64;
/** Larger matrices come from memory for each tile of rows. */
const CACHED_BYTES = 16e6;
/** Workgroups that run at a time. */
const CORES = 2;

export const isBackward = (call: Call): boolean => option(call, "BACKWARD") === 1;
/** A subgroup's columns are neighbours in a row of W. */
export const hasNeighbours = (call: Call): boolean => isBackward(call) && Boolean(option(call, "NF4"));
/** With vectors of 512 bits each lane loads its own weights: processors that have them gather. */
export const loadsOwn = (traits: AdapterTraits): boolean => traits.subgroupMaxSize === 16;

function formatOf(call: Call): keyof typeof BITS {
  if (option(call, "NF4")) return "nf4";
  if (option(call, "INT8")) return "int8";
  return isF32(call) ? "f32" : "half";
}

/** NF4 backward: blocks of one row of W that a column tile can touch. */
export function blocksOf(call: Call, { LANES: lanes, COLS }: SoftwareShape): number {
  const [columns, block] = [lanes * COLS, option(call, "BLOCK")];
  return columns % block === 0 ? columns / block : Math.ceil(columns / block) + 1;
}

/** The tokens' tile, and in NF4 backward the scales of as many rows of W. */
function workgroupBytes(call: Call, shape: SoftwareShape): number {
  return 4 * DEPTH * (shape.ROWS + (hasNeighbours(call) ? blocksOf(call, shape) : 0));
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}

/** From how far weights come: 1 where caches hold them, one more for each cache that does not. */
function distance(call: Call, traits: AdapterTraits, { LANES: lanes, COLS }: SoftwareShape): number {
  const [K, M] = [size(call, "K"), size(call, "M")];
  const bytes = BITS[formatOf(call)] / 8;
  const far = 1 + Number(K * M * bytes > CACHED_BYTES);
  // Lanes that load their own go down the columns side by side: as many rows of W at a time.
  if (isBackward(call) || !loadsOwn(traits)) return far;
  const isCrowded = ({ period, lines }: typeof FIRST_CACHE, rows: number): boolean =>
    rows / Math.min(period / LINE, period / commonDivisor(K * bytes, period)) > lines;
  return (
    far +
    Number(isCrowded(FIRST_CACHE, traits.subgroupMaxSize * COLS)) +
    Number(isCrowded(SECOND_CACHE, lanes * COLS))
  );
}

/** Rows of a tile for N tokens: whole vec4 of few padded rows. */
function rowChoices(N: number, most: number): number[] {
  if (N <= 8) return [N > 1 ? 8 : 1];
  const fewestTiles = Math.ceil(N / most);
  return [...new Set([0, 1, 2].map((more) => Math.ceil(N / (fewestTiles + more) / 4) * 4))];
}

const weightsOf = (call: Call): { readonly shared: number; readonly own: number } =>
  WEIGHTS[isBackward(call) ? "backward" : "forward"][formatOf(call)];

/** A word of codes or a vector of packed values holds eight terms of a row of W, a vec4 four. */
const unrollOf = (call: Call): number => (isBackward(call) || formatOf(call) === "f32" ? 4 : 8);

/** Tiles that fit the adapter and the caches of instructions. */
function* shapes(call: Call, traits: AdapterTraits, N: number): Generator<SoftwareShape> {
  const isF32Forward = formatOf(call) === "f32" && !isBackward(call);
  const UNROLL = unrollOf(call);
  // Four columns of eight terms run at half the speed in some shapes.
  const columns = hasNeighbours(call) ? [2, 4] : UNROLL === 8 ? [1, 2, 3] : [1, 2, 3, 4];
  const lanes = (hasNeighbours(call) ? NEIGHBOUR_LANES : LANES).filter(
    (n) => n % traits.subgroupMaxSize === 0 && n <= traits.maxWorkgroupInvocations,
  );
  const { shared, own } = weightsOf(call);
  const weight = loadsOwn(traits) ? Math.min(own, MOST_OWN_CODE) : shared;
  for (const COLS of columns) {
    for (const ROWS of rowChoices(
      N,
      Math.min(MOST_ROWS, (isF32Forward ? MOST_SUMS_F32 : MOST_SUMS) / COLS),
    )) {
      const code = UNROLL * (TOKEN * ROWS + (TERM * ROWS + weight) * COLS) + SUM * ROWS * COLS;
      if (code > MOST_CODE) continue;
      for (const n of lanes) {
        const shape = { LANES: n, COLS, ROWS, UNROLL };
        if (workgroupBytes(call, shape) <= traits.maxWorkgroupBytes) yield shape;
      }
    }
  }
}

/**
 * Work of a product in its tiles: padded rows and columns cost as much as real ones; fetching weights is shared by the rows, fetching
 * tokens by the columns; few workgroups leave cores idle.
 */
function work(call: Call, traits: AdapterTraits, N: number, shape: SoftwareShape): number {
  const { LANES: lanes, COLS, ROWS, UNROLL } = shape;
  const { shared, own } = weightsOf(call);
  const weight = (loadsOwn(traits) ? own : shared) * distance(call, traits, shape);
  const perColumn =
    ((TOKEN + (TERM + SUM / UNROLL) * COLS) * ROWS) / COLS +
    weight +
    (STAGING * traits.subgroupMaxSize * ROWS) / (lanes * COLS);
  const groups = Math.ceil(size(call, "M") / (lanes * COLS)) * Math.ceil(N / ROWS);
  return Math.ceil(groups / CORES) * CORES * lanes * COLS * perColumn;
}

/** The tile with the least estimated work. */
export function softwareShape(call: Call, traits: AdapterTraits): SoftwareShape {
  const N = Math.max(1, size(call, "N"));
  let best: SoftwareShape = { LANES: 32, COLS: hasNeighbours(call) ? 2 : 1, ROWS: 8, UNROLL: unrollOf(call) };
  let least = Infinity;
  for (const shape of shapes(call, traits, N)) {
    const value = work(call, traits, N, shape);
    if (value >= least) continue;
    [best, least] = [shape, value];
  }
  return best;
}
