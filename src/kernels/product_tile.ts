/** Products for any GPU: register tiles over workgroup memory, no features needed. */
import { size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { hasVec4Low, hasVec4Rows, hasVec4Weights, isAligned } from "./product_layout.js";

const DEPTH = 16;
/**
 * 64 x 64 results by 128 invocations, 4 x 8 each. Mesa 26.1 takes 64 registers on NVIDIA and 64 to 96 on AMD without
 * spills; on Intel, at 16 lanes, about 55 spills, most of them after the loop. 4 x 4 each does not spill there but is slower.
 */
const SHAPE = { THREAD_COLUMNS: 8, THREAD_ROWS: 16, ROW_QUADS: 1, COLUMN_QUADS: 2, DEPTH };

const defines = (call: Call): Defines => ({
  ...call.options,
  ...SHAPE,
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
  grid: (call) => [
    Math.ceil(size(call, "M") / (4 * SHAPE.THREAD_COLUMNS * SHAPE.COLUMN_QUADS)),
    Math.ceil(size(call, "N") / (4 * SHAPE.THREAD_ROWS * SHAPE.ROW_QUADS)),
    1,
  ],
};
