/** Copies rows into a longer tensor: new keys into the cache of a generation. */
import { bound, size, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { elementVariants } from "./elements.js";

export const copyRows: Kernel = {
  name: "copy_rows",
  bindings: { x: "read", y: "update" },
  variants: elementVariants("copy_rows.wgsl", (call) => size(call, "count")),
  twin(memory, call) {
    const [x, y] = [bound(memory, "x"), bound(memory, "y")];
    y.set(x.subarray(0, size(call, "count")), size(call, "offset"));
  },
  cost: (call) => ({ flops: 0, bytes: 8 * size(call, "count") }),
};

/**
 * @param t.x [N, width] f32
 * @param t.y [rows, width] f32; rows `row` to `row + N` are overwritten
 */
export function callCopyRows(
  label: string,
  t: { readonly x: Tensor; readonly y: Tensor },
  s: { readonly N: number; readonly width: number; readonly row: number },
): Call {
  return {
    kernel: copyRows,
    label,
    tensors: { ...t },
    sizes: { count: s.N * s.width, offset: s.row * s.width },
    options: {},
  };
}
