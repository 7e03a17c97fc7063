/** Copies between storage types: activations that wait are kept in 16 bits, what kernels work on is f32. */
import { bound, option, size, type Call, type Kernel } from "../program/kernel.js";
import { elementCount, type Tensor } from "../program/tensor.js";
import { elementVariants } from "./elements.js";

/** Four values of a block, or two of bf16. */
const lanes = (call: Call): number => size(call, "count") / (option(call, "BLOCKS") ? 4 : 2);

export const convertRows: Kernel = {
  name: "convert_rows",
  bindings: { x: "read", y: "write" },
  variants: elementVariants("convert_rows.wgsl", lanes),
  twin(memory, call) {
    const [x, y] = [bound(memory, "x"), bound(memory, "y")];
    y.set(x.subarray(0, size(call, "count")));
  },
  cost: (call) => ({ flops: 0, bytes: 6 * size(call, "count") }),
};

/**
 * y = x for the first N rows.
 * @param t.x [rows, width] f32, bf16 or bfp16
 * @param t.y [rows, width] f32, bf16 or bfp16, overwritten; one of both is f32 where the other is bfp16
 * @param s.width values of a row; N * width is even, width a multiple of 4 where bfp16 is
 */
export function callConvertRows(
  label: string,
  t: { readonly x: Tensor; readonly y: Tensor },
  s: { readonly N: number; readonly width: number },
): Call {
  const count = s.N * s.width;
  const toBlocks = t.y.dtype === "bfp16";
  const blocks = toBlocks || t.x.dtype === "bfp16";
  const fits = blocks ? s.width % 4 === 0 && (toBlocks ? t.x : t.y).dtype === "f32" : count % 2 === 0;
  if (!fits || count > elementCount(t.x) || count > elementCount(t.y))
    throw new Error(`${label}: cannot convert ${count} values`);
  return {
    kernel: convertRows,
    label,
    tensors: { ...t },
    sizes: { count },
    options: blocks
      ? { BLOCKS: true, PACK: toBlocks }
      : { FROM_BF16: t.x.dtype === "bf16", TO_BF16: t.y.dtype === "bf16" },
  };
}
