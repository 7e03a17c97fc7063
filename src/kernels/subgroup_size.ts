/** The subgroup sizes that kernels ask for: those with large register tiles, and those on subgroup matrices. */
import type { AdapterTraits } from "../gpu/traits.js";

/**
 * On Intel a thread has the same registers at every subgroup size, so that a lane of the smallest has the most; elsewhere the
 * driver's own choice (0) is best.
 */
export const smallestSubgroup = (traits: AdapterTraits): number =>
  traits.vendor === "intel" && traits.features.has("subgroup-size-control") ? traits.subgroupMinSize : 0;

/** Of every Apple GPU; Metal promises Dawn no more than 4 to 64. */
const APPLE_SUBGROUP = 32;

/** The subgroup size of a kernel on matrices; 0 where it is not known before the shader runs. */
export function matrixSubgroup(wanted: "smallest" | "largest", traits: AdapterTraits): number {
  const { subgroupMinSize: min, subgroupMaxSize: max } = traits;
  if (traits.vendor === "apple") return APPLE_SUBGROUP;
  if (min !== max && !traits.features.has("subgroup-size-control")) return 0;
  return wanted === "largest" ? max : min;
}
