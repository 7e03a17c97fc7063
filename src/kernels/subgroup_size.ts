/** The subgroup size that kernels with large register tiles ask for. */
import type { AdapterTraits } from "../gpu/traits.js";

/**
 * On Intel a thread has the same registers at every subgroup size, so that a lane of the smallest has the most; elsewhere the
 * driver's own choice (0) is best.
 */
export const smallestSubgroup = (traits: AdapterTraits): number =>
  traits.vendor === "intel" && traits.features.has("subgroup-size-control") ? traits.subgroupMinSize : 0;
