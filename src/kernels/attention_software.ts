/** Attention for software adapters (lavapipe): a row per lane, everything that lanes share in workgroup memory. */
import type { AdapterTraits } from "../gpu/traits.js";
import { option, size, type Call, type Variant } from "../program/kernel.js";

/** Keys (or queries) that are summed up in registers at a time. */
const STEP = 8;
/** Floats of each of the two tiles in workgroup memory. */
const TILE_FLOATS = 2048;
/** Beyond this head dimension rows do not stay in the processor's first cache and compiling takes long. */
const LARGEST_HEAD_DIM = 128;

/**
 * @param rows rows of one kv head that lanes are given to
 * @param more defines of the file
 */
export function softwareAttention(file: string, rows: (call: Call) => number, lanes: number, more: Readonly<Record<string, boolean>> = {}): Variant {
  return {
    name: "software",
    file,
    accepts: (call: Call, traits: AdapterTraits) =>
      traits.isSoftware && traits.features.has("subgroups") && lanes <= traits.maxWorkgroupInvocations &&
      Object.keys(call.tensors).length <= traits.maxStorageBuffers &&
      option(call, "HEAD_DIM") % 4 === 0 && option(call, "HEAD_DIM") <= LARGEST_HEAD_DIM,
    defines: (call) => ({
      ...call.options, ...more, STEP, LANES: lanes,
      KEYS: Math.max(STEP, Math.min(32, Math.floor(TILE_FLOATS / option(call, "HEAD_DIM") / STEP) * STEP)),
    }),
    grid: (call) => [Math.ceil(rows(call) / lanes), size(call, "N") > 0 ? option(call, "KV_HEADS") : 0, 1],
  };
}

/** Queries times the heads that share a kv head. */
export const groupedQueries = (call: Call): number => (size(call, "N") * option(call, "HEADS")) / option(call, "KV_HEADS");
