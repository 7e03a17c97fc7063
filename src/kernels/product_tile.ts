/** Products for any GPU: register tiles over workgroup memory, no features needed. */
import { option, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { hasVec4Rows } from "./product_software.js";

const DEPTH = 16;
/** 64 x 64 results by 128 invocations, 4 x 8 each: about 100 registers, no spills on NVIDIA, AMD and Intel. */
const SHAPE = { THREAD_COLUMNS: 8, THREAD_ROWS: 16, ROW_QUADS: 1, COLUMN_QUADS: 2, DEPTH };

function defines(call: Call): Defines {
  const isBackward = option(call, "BACKWARD") === 1;
  const length = size(call, isBackward ? "M" : "K");
  const isPacked = Boolean(option(call, "BF16") || option(call, "F16"));
  return {
    ...call.options,
    ...SHAPE,
    X_VEC4: hasVec4Rows(call),
    W_VEC4: length % (isPacked ? 8 : 4) === 0,
    B_VEC4: size(call, isBackward ? "M" : "rank") % 4 === 0,
    ALIGNED: option(call, "NF4") === 1 && length % 8 === 0 && length % option(call, "BLOCK") === 0,
  };
}

export const tileVariant: Variant = {
  name: "tile",
  file: "product_tile.wgsl",
  accepts: () => true,
  defines,
  grid: (call) => [
    Math.ceil(size(call, "M") / (4 * SHAPE.THREAD_COLUMNS * SHAPE.COLUMN_QUADS)),
    Math.ceil(size(call, "N") / (4 * SHAPE.THREAD_ROWS * SHAPE.ROW_QUADS)), 1,
  ],
};
