/** Products for any GPU: register tiles over workgroup memory, no features needed. */
import { size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { fitsBindings, hasVec4Low, hasVec4Rows, hasVec4Weights, isAligned } from "./product_layout.js";

const DEPTH = 16;
/** 64 x 64 results by 128 invocations, 4 x 8 each: about 100 registers, no spills on NVIDIA, AMD and Intel. */
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
  accepts: fitsBindings,
  defines,
  grid: (call) => [
    Math.ceil(size(call, "M") / (4 * SHAPE.THREAD_COLUMNS * SHAPE.COLUMN_QUADS)),
    Math.ceil(size(call, "N") / (4 * SHAPE.THREAD_ROWS * SHAPE.ROW_QUADS)), 1,
  ],
};
