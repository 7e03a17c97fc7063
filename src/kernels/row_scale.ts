/** What kernels that take the gradient dy of DoRA's output say of its e = g dy, which nobody writes: row_scale.wgsl. */
import { bound, option, type Call, type Defines, type TwinMemory } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";

/** @param scaleBias f32 [out, 2] g, bias; or [out, 1] g */
export const rowScaleOptions = (scaleBias: Tensor | undefined): Defines => ({
  SCALE_ROWS: scaleBias !== undefined,
  SCALE_ONLY: scaleBias?.shape[1] === 1,
});

/** g of the rows of W or B: 1 in calls that scale none. */
export function rowScales(memory: TwinMemory, call: Call): (row: number) => number {
  if (!option(call, "SCALE_ROWS")) return () => 1;
  const scaleBias = bound(memory, "scale_bias");
  const width = option(call, "SCALE_ONLY") ? 1 : 2;
  return (row) => scaleBias[width * row]!;
}
