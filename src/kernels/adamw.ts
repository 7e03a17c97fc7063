/**
 * The optimizer: global gradient norm, clipping (torch's clip_grad_norm_), AdamW (Loshchilov and Hutter 2019, as torch.optim.AdamW).
 * `step` f32 [16]: 0 1 / scored labels, 1 learning rate, 2 1 - beta1^t, 3 1 - beta2^t, 4 weight decay, 5 epsilon, 6 largest norm,
 * 7 beta1, 8 beta2, 9 1 - beta1, 10 1 - beta2. `totals` f32 [16]: 0 loss sum, 1 gradient norm, 2 clip factor (0: norm or loss not finite, no update).
 */
import { bound, size, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { elementVariants, laneVariants, softwareLanes } from "./elements.js";

/** One workgroup or few have all of it to read: as many lanes as WebGPU promises. */
const SUM_LANES = 256;
/** Partial sums per arena. */
export const NORM_PARTIALS = 64;
const NORM_PIECES = { PIECE: SUM_LANES, PARTIALS: NORM_PARTIALS };

export const gradientNorm: Kernel = {
  name: "gradient_norm",
  bindings: { gradient: "read", partials: "update" },
  variants: laneVariants(
    "split",
    { file: "gradient_norm.wgsl", grid: () => [NORM_PARTIALS, 1, 1] },
    (_, traits) => ({ ...NORM_PIECES, LANES: softwareLanes(traits) }),
    () => ({ ...NORM_PIECES, LANES: SUM_LANES }),
  ),
  twin(memory, call) {
    const [gradient, partials] = [bound(memory, "gradient"), bound(memory, "partials")];
    const first = size(call, "slot") * NORM_PARTIALS;
    partials.fill(0, first, first + NORM_PARTIALS);
    for (let i = 0; i < size(call, "count"); i++) {
      const at = first + (Math.floor(i / SUM_LANES) % NORM_PARTIALS);
      partials[at] = partials[at]! + gradient[i]! ** 2;
    }
  },
  cost: (call) => ({ flops: 2 * size(call, "count"), bytes: 4 * size(call, "count") }),
};

export const clip: Kernel = {
  name: "clip",
  bindings: { partials: "read", step: "read", totals: "update" },
  variants: [
    {
      name: "one workgroup",
      file: "clip.wgsl",
      accepts: () => true,
      defines: () => ({ LANES: SUM_LANES }),
      grid: () => [1, 1, 1],
    },
  ],
  twin(memory, call) {
    const [partials, step, totals] = [
      bound(memory, "partials"),
      bound(memory, "step"),
      bound(memory, "totals"),
    ];
    let sum = 0;
    for (let i = 0; i < size(call, "count"); i++) sum += partials[i]!;
    const norm = Math.sqrt(sum);
    totals[1] = norm;
    totals[2] =
      Number.isFinite(norm) && Number.isFinite(totals[0]!) ? Math.min(1, step[6]! / (norm + 1e-6)) : 0;
  },
  cost: (call) => ({ flops: size(call, "count"), bytes: 4 * size(call, "count") }),
};

export const adamw: Kernel = {
  name: "adamw",
  bindings: {
    step: "read",
    totals: "read",
    parameter: "update",
    gradient: "update",
    first_moment: "update",
    second_moment: "update",
  },
  variants: elementVariants("adamw.wgsl", (call) => size(call, "count")),
  twin(memory, call) {
    const [step, totals, p, g] = [
      bound(memory, "step"),
      bound(memory, "totals"),
      bound(memory, "parameter"),
      bound(memory, "gradient"),
    ];
    const [m, v] = [bound(memory, "first_moment"), bound(memory, "second_moment")];
    for (let i = 0; i < size(call, "count"); i++) {
      if (totals[2]! > 0) {
        const gradient = g[i]! * totals[2]!;
        m[i] = step[7]! * m[i]! + step[9]! * gradient;
        v[i] = step[8]! * v[i]! + step[10]! * gradient ** 2;
        const decay = i < size(call, "decayEnd") ? step[4]! : 0;
        p[i] =
          p[i]! * (1 - step[1]! * decay) -
          ((step[1]! / step[2]!) * m[i]!) / (Math.sqrt(v[i]! / step[3]!) + step[5]!);
      }
      g[i] = 0;
    }
  },
  cost: (call) => ({ flops: 16 * size(call, "count"), bytes: 32 * size(call, "count") }),
};

/**
 * @param t.gradient f32 [count]
 * @param t.partials f32 [slots * NORM_PARTIALS], of which this call writes its slot
 */
export function callGradientNorm(
  label: string,
  t: { readonly gradient: Tensor; readonly partials: Tensor },
  s: { readonly count: number; readonly slot: number },
): Call {
  return { kernel: gradientNorm, label, tensors: { ...t }, sizes: s, options: {} };
}

/** totals[1] = norm, totals[2] = clip factor, from `count` partial sums. */
export function callClip(
  label: string,
  t: { readonly partials: Tensor; readonly step: Tensor; readonly totals: Tensor },
  s: { readonly count: number },
): Call {
  return { kernel: clip, label, tensors: { ...t }, sizes: s, options: {} };
}

/** One step over an arena of `count` parameters, of which the first `decayEnd` decay; its gradients are zero afterwards. */
export function callAdamw(
  label: string,
  t: {
    readonly parameter: Tensor;
    readonly gradient: Tensor;
    readonly first_moment: Tensor;
    readonly second_moment: Tensor;
    readonly step: Tensor;
    readonly totals: Tensor;
  },
  s: { readonly count: number; readonly decayEnd: number },
): Call {
  return { kernel: adamw, label, tensors: { ...t }, sizes: s, options: {} };
}
