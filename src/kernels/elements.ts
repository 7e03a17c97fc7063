/** How lanes go through memory: kernels that do the same to each element, and sums over long rows. */
import type { AdapterTraits } from "../gpu/traits.js";
import { grid1d, type Call, type Variant } from "../program/kernel.js";
import { isTimed } from "./split.js";

const LANES = 64;
/** Elements of a lane on a software adapter: a workgroup costs as much as some elements do. */
const SOFTWARE_EACH = 64;
/** Of a software adapter that does not say its subgroups. */
const FEWEST_LANES = 4;

/** A software adapter runs one subgroup of a workgroup after the other: where there is but one, memory is read in order. */
export const softwareLanes = ({ subgroupMaxSize }: AdapterTraits): number => subgroupMaxSize || FEWEST_LANES;

/** The same shader for software adapters and, by its name, for real GPUs: they differ in their defines. */
export const laneVariants = (
  name: string,
  { file, grid }: Pick<Variant, "file" | "grid">,
  software: Variant["defines"],
  real: Variant["defines"],
): readonly Variant[] => [
  { name: "software", file, accepts: (_, traits) => traits.isSoftware, defines: software, grid },
  { name, file, accepts: () => true, isTimed, defines: real, grid },
];

/**
 * The variants of a kernel that does the same to each element: elements.wgsl.
 * @param count elements of a call
 */
export function elementVariants(file: string, count: (call: Call) => number): readonly Variant[] {
  const grid: Variant["grid"] = (call, d) =>
    grid1d(Math.ceil(count(call) / (Number(d["LANES"]) * Number(d["EACH"]))));
  return laneVariants(
    "element",
    { file, grid },
    (call, traits) => ({ ...call.options, LANES: softwareLanes(traits), EACH: SOFTWARE_EACH }),
    (call) => ({ ...call.options, LANES, EACH: 1 }),
  );
}
