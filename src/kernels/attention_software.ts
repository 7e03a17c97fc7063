/** Attention for software adapters (lavapipe): rows on lanes, what all lanes read in workgroup memory at shared addresses. */
import type { AdapterTraits } from "../gpu/traits.js";
import { option, size, type Call, type Defines, type Variant } from "../program/kernel.js";

/** Rows of a lane, and keys (or queries) at a time. Twice the step is no faster and takes half as long again to compile. */
const ROWS = 2;
const STEP = 2;
/** Floats of each of the two tiles in workgroup memory; both, and two numbers a row, stay below 16 KiB. */
const TILE_FLOATS = 1984;
/** Beyond this head dimension a subgroup's rows do not fit the processor's first cache, and compiling takes long. */
const LARGEST_HEAD_DIM = 128;
const LANES = [128, 64, 32];
/** Workgroups that keep the cores busy although the first ones have fewer keys than the last. */
const ENOUGH_GROUPS = 12;

const groups = (call: Call, rows: number, lanes: number): number =>
  Math.ceil(rows / (lanes * ROWS)) * option(call, "KV_HEADS");

/**
 * @param rowsOf rows of one kv head that are spread over lanes
 * @param more defines of the file
 */
export function softwareAttention(file: string, rowsOf: (call: Call) => number, more: Defines = {}): Variant {
  return {
    name: "software",
    file,
    accepts: (call: Call, traits: AdapterTraits) =>
      traits.isSoftware &&
      traits.features.has("subgroups") &&
      option(call, "HEAD_DIM") % 4 === 0 &&
      option(call, "HEAD_DIM") <= LARGEST_HEAD_DIM,
    defines: (call) => ({
      ...call.options,
      ...more,
      ROWS,
      STEP,
      LANES: LANES.find((lanes) => groups(call, rowsOf(call), lanes) >= ENOUGH_GROUPS) ?? Math.min(...LANES),
      KEYS: Math.min(32, Math.floor(TILE_FLOATS / option(call, "HEAD_DIM") / STEP) * STEP),
    }),
    grid: (call, d) => [
      Math.ceil(rowsOf(call) / (Number(d["LANES"]) * ROWS)),
      size(call, "N") > 0 ? option(call, "KV_HEADS") : 0,
      1,
    ],
  };
}

/** Queries times the heads that share a kv head. */
export const groupedQueries = (call: Call): number =>
  (size(call, "N") * option(call, "HEADS")) / option(call, "KV_HEADS");

/** Blocks are read four values at a time. */
export const readableHeads = (call: Call): boolean =>
  option(call, "BLOCKS") === 0 || option(call, "HEAD_DIM") % 4 === 0;
