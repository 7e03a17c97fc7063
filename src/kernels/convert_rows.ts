/** Copies between storage types: activations that wait are kept in bf16, what kernels work on is f32. */
import { bound, grid1d, size, type Call, type Kernel } from "../program/kernel.js";
import { elementCount, type Tensor } from "../program/tensor.js";

const LANES = 64;

export const convertRows: Kernel = {
  name: "convert_rows",
  bindings: { x: "read", y: "write" },
  variants: [
    {
      name: "pair",
      file: "convert_rows.wgsl",
      accepts: () => true,
      defines: (call) => ({ ...call.options, LANES }),
      grid: (call) => grid1d(Math.ceil(size(call, "count") / 2 / LANES)),
    },
  ],
  twin(memory, call) {
    const [x, y] = [bound(memory, "x"), bound(memory, "y")];
    y.set(x.subarray(0, size(call, "count")));
  },
  cost: (call) => ({ flops: 0, bytes: 6 * size(call, "count") }),
};

/**
 * y = x for the first N rows.
 * @param t.x [rows, width] f32 or bf16
 * @param t.y [rows, width] f32 or bf16, overwritten
 * @param s.width values of a row; N * width is even
 */
export function callConvertRows(
  label: string,
  t: { readonly x: Tensor; readonly y: Tensor },
  s: { readonly N: number; readonly width: number },
): Call {
  const count = s.N * s.width;
  if (count % 2 !== 0 || count > elementCount(t.x) || count > elementCount(t.y))
    throw new Error(`${label}: cannot convert ${count} values`);
  return {
    kernel: convertRows,
    label,
    tensors: { ...t },
    sizes: { count },
    options: { FROM_BF16: t.x.dtype === "bf16", TO_BF16: t.y.dtype === "bf16" },
  };
}
