/** RMSNorm: y = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019), with a gradient for x only: weights are frozen. */
import { bound, grid1d, size, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";

const LANES = 64;

export const rmsNormForward: Kernel = {
  name: "rms_norm_forward",
  bindings: { x: "read", weight: "read", y: "write" },
  variants: [
    {
      name: "row",
      file: "rms_norm_forward.wgsl",
      accepts: () => true,
      defines: () => ({ LANES }),
      grid: (call) => grid1d(size(call, "rows")),
    },
  ],
  twin(memory, call) {
    const [x, weight, y] = [bound(memory, "x"), bound(memory, "weight"), bound(memory, "y")];
    const [rows, D, eps] = [size(call, "rows"), size(call, "D"), size(call, "eps")];
    for (let r = 0; r < rows; r++) {
      let squares = 0;
      for (let i = 0; i < D; i++) squares += x[r * D + i]! ** 2;
      const scale = 1 / Math.sqrt(squares / D + eps);
      for (let i = 0; i < D; i++) y[r * D + i] = x[r * D + i]! * scale * weight[i]!;
    }
  },
  cost: (call) => ({ flops: 4 * size(call, "rows") * size(call, "D"), bytes: 8 * size(call, "rows") * size(call, "D") }),
};

/**
 * @param t.x [rows, D] f32
 * @param t.weight [D] f32
 * @param t.y [rows, D] f32, overwritten
 */
export function callRmsNormForward(
  label: string,
  t: { readonly x: Tensor; readonly weight: Tensor; readonly y: Tensor },
  sizes: { readonly rows: number; readonly D: number; readonly eps: number },
): Call {
  return { kernel: rmsNormForward, label, tensors: { ...t }, sizes, options: {} };
}
