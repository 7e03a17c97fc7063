/** Rotary position embedding (Su et al. 2021) in Hugging Face's layout, in place. Its inverse is its gradient. */
import { bound, grid1d, size, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";

const LANES = 64;

const pairs = (call: Call): number => (size(call, "N") * size(call, "heads") * size(call, "headDim")) / 2;

export const rope: Kernel = {
  name: "rope",
  bindings: { positions: "read", table: "read", x: "update" },
  variants: [
    {
      name: "pair",
      file: "rope.wgsl",
      accepts: () => true,
      defines: () => ({ LANES }),
      grid: (call) => grid1d(Math.ceil(pairs(call) / LANES)),
    },
  ],
  twin(memory, call) {
    const [positions, table, x] = [bound(memory, "positions"), bound(memory, "table"), bound(memory, "x")];
    const [heads, half] = [size(call, "heads"), size(call, "headDim") / 2];
    for (let head = 0; head < size(call, "N") * heads; head++) {
      for (let i = 0; i < half; i++) {
        const at = 2 * (positions[Math.floor(head / heads)]! * half + i);
        const cos = table[at]! * size(call, "factor");
        const sin = table[at + 1]! * size(call, "direction") * size(call, "factor");
        const [a, b] = [head * 2 * half + i, head * 2 * half + half + i];
        const [x1, x2] = [x[a]!, x[b]!];
        x[a] = x1 * cos - x2 * sin;
        x[b] = x2 * cos + x1 * sin;
      }
    }
  },
  cost: (call) => ({ flops: 6 * pairs(call), bytes: 16 * pairs(call) }),
};

/**
 * @param t.x f32 [N, heads * headDim], turned in place
 * @param t.table f32 [positions, headDim / 2, 2] cos, sin
 * @param t.positions u32 [N]
 * @param s.direction 1 turns, -1 turns back (the gradient)
 * @param s.factor multiplies the result
 */
export function callRope(
  label: string,
  t: { readonly x: Tensor; readonly table: Tensor; readonly positions: Tensor },
  s: {
    readonly N: number;
    readonly heads: number;
    readonly headDim: number;
    readonly direction: 1 | -1;
    readonly factor: number;
  },
): Call {
  return { kernel: rope, label, tensors: { ...t }, sizes: s, options: {} };
}
