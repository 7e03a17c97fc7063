/** Products for any GPU: register tiles over workgroup memory, no features needed. */
import type { AdapterTraits } from "../gpu/traits.js";
import { size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { besideLarge, hasVec4Low, hasVec4Rows, hasVec4Weights, isAligned } from "./product_layout.js";
import { smallestSubgroup } from "./subgroup_size.js";

/** 128 invocations; 8 KiB of workgroup memory at most, or 12 with eight rows each. */
const SHAPE = { THREAD_COLUMNS: 8, THREAD_ROWS: 16, DEPTH: 16 };

/** Vendors whose compilers were seen to keep 8 x 8 sums per invocation in registers. Intel's spills: 4 x 8 there and elsewhere. */
const WIDE_REGISTERS = ["nvidia", "amd"];

/** Rows of an invocation in fours: tall tiles share a decoded weight among more tokens, where there are so many. */
const rowQuads = (call: Call, traits: AdapterTraits): number =>
  WIDE_REGISTERS.includes(traits.vendor) && size(call, "N") > 4 * SHAPE.THREAD_ROWS ? 2 : 1;

const defines = (call: Call, traits: AdapterTraits): Defines => ({
  ...call.options,
  ...SHAPE,
  COLUMN_QUADS: 2,
  ROW_QUADS: rowQuads(call, traits),
  SUBGROUP_SIZE: smallestSubgroup(traits),
  X_VEC4: hasVec4Rows(call),
  W_VEC4: hasVec4Weights(call),
  B_VEC4: hasVec4Low(call),
  ALIGNED: isAligned(call),
});

export const tileVariant: Variant = {
  name: "tile",
  file: "product_tile.wgsl",
  accepts: () => true,
  defines,
  grid: (call, d) => [
    Math.ceil(size(call, "M") / (4 * SHAPE.THREAD_COLUMNS * Number(d["COLUMN_QUADS"]))),
    Math.ceil(size(call, "N") / (4 * SHAPE.THREAD_ROWS * Number(d["ROW_QUADS"]))),
    1,
  ],
};

/** 4 x 4 sums per invocation. */
export const smallTileVariant = besideLarge(tileVariant, {
  ...tileVariant,
  name: "small_tile",
  defines: (call, traits) => ({ ...defines(call, traits), COLUMN_QUADS: 1, ROW_QUADS: 1 }),
});
