/**
 * Products for software adapters (lavapipe, SwiftShader): tokens' tile in workgroup memory read at shared addresses,
 * output columns on lanes. Everything here is about the shape of the tile.
 */
import type { AdapterTraits } from "../gpu/traits.js";
import { option, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { hasVec4Low, hasVec4Rows, hasVec4Weights, isAligned, isF32 } from "./product_layout.js";

/** Depth of the tokens' tile; blocks of NF4 must be whole multiples of it. */
const KT = 64;
const LANES = [32, 64, 96, 128, 192, 256];
const COLUMNS = [1, 2, 3];
/**
 * NF4 backward: a subgroup's columns are neighbours whose codes come with one vector load, so their number is a power of two; 48 and
 * 144 lanes make tiles of 192 and 576 columns. Tiles of 96 and 192 lanes were slower than those of 64 and 128 in every shape.
 */
const NEIGHBOURS = { lanes: [32, 48, 64, 128, 144, 256], columns: [2, 4] };

interface Shape {
  readonly LANES: number;
  readonly COLS: number;
  readonly ROWS: number;
  readonly UNROLL: number;
}

const hasNeighbours = (call: Call): boolean => Boolean(option(call, "BACKWARD") && option(call, "NF4"));

/**
 * The tile with the least estimated work: padded columns cost as much as real ones; fetching weights is shared by the
 * rows, fetching tokens by the columns; few workgroups leave cores idle.
 */
export function softwareShape(call: Call, traits: AdapterTraits): Shape {
  const N = Math.max(1, size(call, "N"));
  const M = size(call, "M");
  const isBackward = option(call, "BACKWARD") === 1;
  // Rows of f32 are the dearest to fetch: they pay for tiles of 64 tokens where those waste none.
  const isTall = isF32(call) && !isBackward && (N + 63) % 64 >= 32;
  const ROWS = isTall ? 64 : N >= 24 ? 32 : N > 8 ? 16 : N > 1 ? 8 : 1;
  // Each round of the inner loop reads and writes all sums: eight terms a round halve that. A word of codes or a vector of packed
  // values holds eight terms of a row of W, but a vec4 four.
  const shape = { UNROLL: !isBackward && isF32(call) ? 4 : 8, ROWS };
  const { lanes: laneChoices, columns } = hasNeighbours(call)
    ? NEIGHBOURS
    : { lanes: LANES, columns: COLUMNS };
  let best: Shape = { ...shape, LANES: 32, COLS: columns[0] ?? 1 };
  let least = Infinity;
  for (const lanes of laneChoices) {
    if (lanes % traits.subgroupMaxSize !== 0 || lanes > traits.maxWorkgroupInvocations) continue;
    for (const cols of columns) {
      const tiles = Math.ceil(M / (lanes * cols));
      const groups = tiles * Math.ceil(N / ROWS);
      const idle = (Math.ceil(groups / 2) * 2) / groups;
      const work = tiles * lanes * cols * (1 + 0.2 / cols + 48 / (lanes * cols)) * idle;
      if (work < least) {
        least = work;
        best = { ...shape, LANES: lanes, COLS: cols };
      }
    }
  }
  return best;
}

function accepts(call: Call, traits: AdapterTraits): boolean {
  const S = traits.subgroupMaxSize;
  if (!traits.isSoftware || S !== traits.subgroupMinSize || ![4, 8, 16].includes(S)) return false;
  return option(call, "NF4") ? isAligned(call) && option(call, "BLOCK") % KT === 0 : hasVec4Weights(call);
}

function defines(call: Call, traits: AdapterTraits): Defines {
  const shape = softwareShape(call, traits);
  const S = traits.subgroupMaxSize;
  const words = hasNeighbours(call) ? (S * shape.COLS) / 8 : 1;
  return {
    ...call.options,
    ...shape,
    S,
    CODES_VEC4: words >= 4,
    CODES_VEC2: words === 2,
    KT,
    X_VEC4: hasVec4Rows(call),
    W_VEC4: true,
    B_VEC4: hasVec4Low(call),
  };
}

export const softwareVariant: Variant = {
  name: "software",
  file: "product_software.wgsl",
  accepts,
  defines,
  grid: (call, d) => [
    Math.ceil(size(call, "M") / (Number(d["LANES"]) * Number(d["COLS"]))),
    Math.ceil(size(call, "N") / Number(d["ROWS"])),
    1,
  ],
};
