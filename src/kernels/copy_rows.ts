/** Copies rows into a longer tensor: new keys into the cache of a generation. */
import { bound, grid1d, size, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";

const LANES = 64;

export const copyRows: Kernel = {
  name: "copy_rows",
  bindings: { x: "read", y: "update" },
  variants: [
    {
      name: "element",
      file: "copy_rows.wgsl",
      accepts: () => true,
      defines: () => ({ LANES }),
      grid: (call) => grid1d(Math.ceil(size(call, "count") / LANES)),
    },
  ],
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
