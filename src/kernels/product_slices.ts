/**
 * Forward products of few rows, such as W At of DoRA's column norms: most GPUs would be idle at tiles of so few results, so the lanes of a
 * workgroup share the terms of a column.
 */
import { option, size, type Variant } from "../program/kernel.js";
import { besideLarge, hasVec4Low, hasVec4Rows, hasVec4Weights, isAligned } from "./product_layout.js";
import { tileVariant } from "./product_tile.js";
import { smallestSubgroup } from "./subgroup_size.js";

const SHAPE = { COLUMNS: 32, SLICES: 8, TOKENS: 16, DEPTH: 32 };
/** Rows that pay: every row tile decodes all weights again. */
const MOST_TOKENS = 2 * SHAPE.TOKENS;
/** Tile and levels. */
const WORKGROUP_BYTES = 4 * (SHAPE.SLICES * SHAPE.TOKENS * SHAPE.DEPTH + 16);

export const slicesVariant: Variant = besideLarge(tileVariant, {
  name: "slices",
  file: "product_slices.wgsl",
  accepts: (call, traits) =>
    option(call, "BACKWARD") === 0 &&
    size(call, "N") <= MOST_TOKENS &&
    WORKGROUP_BYTES <= traits.maxWorkgroupBytes,
  defines: (call, traits) => ({
    ...call.options,
    ...SHAPE,
    SUBGROUP_SIZE: smallestSubgroup(traits),
    X_VEC4: hasVec4Rows(call),
    W_VEC4: hasVec4Weights(call),
    B_VEC4: hasVec4Low(call),
    ALIGNED: isAligned(call),
  }),
  grid: (call) => [Math.ceil(size(call, "M") / SHAPE.COLUMNS), Math.ceil(size(call, "N") / SHAPE.TOKENS), 1],
});
