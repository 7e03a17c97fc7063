/** SwiGLU: y = silu(gate) * up (Shazeer 2020), elementwise. */
import { bound, grid1d, size, type Call, type Kernel, type Variant } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";

const LANES = 64;
/** A workgroup costs a software adapter as much as 64 elements do. */
const SOFTWARE_LANES = 256;

const element = (file: string): Variant => ({
  name: "element",
  file,
  accepts: () => true,
  defines: (_, traits) => ({ LANES: traits.isSoftware ? SOFTWARE_LANES : LANES }),
  grid: (call, d) => grid1d(Math.ceil(size(call, "count") / Number(d["LANES"]))),
});

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

export const swigluForward: Kernel = {
  name: "swiglu_forward",
  bindings: { gate: "read", up: "read", y: "write" },
  variants: [element("swiglu_forward.wgsl")],
  twin(memory, call) {
    const [gate, up, y] = [bound(memory, "gate"), bound(memory, "up"), bound(memory, "y")];
    for (let i = 0; i < size(call, "count"); i++) y[i] = gate[i]! * sigmoid(gate[i]!) * up[i]!;
  },
  cost: (call) => ({ flops: 6 * size(call, "count"), bytes: 12 * size(call, "count") }),
};

export const swigluBackward: Kernel = {
  name: "swiglu_backward",
  bindings: { gate: "read", up: "read", d: "update", d_gate: "write" },
  variants: [element("swiglu_backward.wgsl")],
  twin(memory, call) {
    const [gate, up] = [bound(memory, "gate"), bound(memory, "up")];
    const [d, dGate] = [bound(memory, "d"), bound(memory, "d_gate")];
    for (let i = 0; i < size(call, "count"); i++) {
      const s = sigmoid(gate[i]!);
      dGate[i] = d[i]! * up[i]! * s * (1 + gate[i]! * (1 - s));
      d[i] = d[i]! * gate[i]! * s;
    }
  },
  cost: (call) => ({ flops: 12 * size(call, "count"), bytes: 20 * size(call, "count") }),
};

/** @param t gate, up and y: f32 [count] */
export function callSwigluForward(
  label: string,
  t: { readonly gate: Tensor; readonly up: Tensor; readonly y: Tensor },
  sizes: { readonly count: number },
): Call {
  return { kernel: swigluForward, label, tensors: { ...t }, sizes, options: {} };
}

/**
 * @param t.gate, t.up f32 [count]
 * @param t.d f32 [count] the gradient of y; afterwards that of up
 * @param t.d_gate f32 [count], overwritten
 */
export function callSwigluBackward(
  label: string,
  t: {
    readonly gate: Tensor;
    readonly up: Tensor;
    readonly d: Tensor;
    readonly d_gate: Tensor;
  },
  sizes: { readonly count: number },
): Call {
  return { kernel: swigluBackward, label, tensors: { ...t }, sizes, options: {} };
}
