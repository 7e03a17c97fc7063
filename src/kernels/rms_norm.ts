/** RMSNorm: y = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019), with a gradient for x only: weights are frozen. */
import {
  bound,
  grid1d,
  option,
  size,
  type Access,
  type Call,
  type Kernel,
  type Variant,
} from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";

const LANES = 64;
/** Lanes of a workgroup that have a row each, and the fewest rows that keep the cores of a software adapter busy so. */
const ROW_LANES = 16;
const FEWEST_ROWS = 64;

const variants = (file: string): readonly Variant[] => [
  {
    name: "software",
    file,
    accepts: (call, traits) => traits.isSoftware && size(call, "rows") >= FEWEST_ROWS,
    defines: (call) => ({ ...call.options, LANES: ROW_LANES, ALONE: true }),
    grid: (call) => grid1d(Math.ceil(size(call, "rows") / ROW_LANES)),
  },
  {
    name: "row",
    file,
    accepts: () => true,
    defines: (call) => ({ ...call.options, LANES }),
    grid: (call) => grid1d(size(call, "rows")),
  },
];

/** How x lies, and whether rows are read four values at a time. */
function loads(label: string, { dtype, name }: Tensor, D: number): { X_TYPE: number; QUADS: boolean } {
  const X_TYPE = ["f32", "bf16", "bfp16"].indexOf(dtype);
  const QUADS = D % 4 === 0;
  if (X_TYPE < 0 || (X_TYPE === 2 && !QUADS))
    throw new Error(`${label}: ${name} is ${dtype}, in rows of ${D}`);
  return { X_TYPE, QUADS };
}

export const rmsNormForward: Kernel = {
  name: "rms_norm_forward",
  bindings: { x: "read", weight: "read", y: "write" },
  variants: variants("rms_norm_forward.wgsl"),
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
  cost: (call) => ({
    flops: 4 * size(call, "rows") * size(call, "D"),
    bytes: 8 * size(call, "rows") * size(call, "D"),
  }),
};

/**
 * @param t.x [rows, D] f32, bf16 or (D a multiple of 4) bfp16
 * @param t.weight [D] f32
 * @param t.y [rows, D] f32, overwritten
 */
export function callRmsNormForward(
  label: string,
  t: { readonly x: Tensor; readonly weight: Tensor; readonly y: Tensor },
  sizes: { readonly rows: number; readonly D: number; readonly eps: number },
): Call {
  return {
    kernel: rmsNormForward,
    label,
    tensors: { ...t },
    sizes,
    options: loads(label, t.x, sizes.D),
  };
}

function backward(name: string, dxAccess: Access): Kernel {
  return {
    name,
    bindings: { x: "read", weight: "read", dy: "read", residual: "read", dx: dxAccess },
    variants: variants("rms_norm_backward.wgsl"),
    twin(memory, call) {
      const [x, weight, dy, dx] = [
        bound(memory, "x"),
        bound(memory, "weight"),
        bound(memory, "dy"),
        bound(memory, "dx"),
      ];
      const residual = memory["residual"];
      const [rows, D, eps] = [size(call, "rows"), size(call, "D"), size(call, "eps")];
      for (let r = 0; r < rows; r++) {
        let squares = 0;
        let dot = 0;
        for (let i = r * D; i < (r + 1) * D; i++) {
          squares += x[i]! ** 2;
          dot += x[i]! * weight[i - r * D]! * dy[i]!;
        }
        const mean = squares / D + eps;
        for (let i = r * D; i < (r + 1) * D; i++) {
          const around = option(call, "ADD") ? dx[i]! : (residual?.[i] ?? 0);
          dx[i] = (dy[i]! * weight[i - r * D]! - (x[i]! * dot) / (D * mean)) / Math.sqrt(mean) + around;
        }
      }
    },
    cost: (call) => ({
      flops: 10 * size(call, "rows") * size(call, "D"),
      bytes: 16 * size(call, "rows") * size(call, "D"),
    }),
  };
}

export const rmsNormBackward = backward("rms_norm_backward", "write");
/** dx holds the gradient that goes around the norm; the norm's is added. */
export const rmsNormBackwardAdd = backward("rms_norm_backward_add", "update");

/**
 * dx = gradient of x (+ residual).
 * @param t.x [rows, D] f32, bf16 or bfp16: what forward read
 * @param t.weight [D] f32
 * @param t.dy [rows, D] f32
 * @param t.residual [rows, D] f32, added: the gradient that goes around the norm
 * @param t.dx [rows, D] f32, overwritten, or added to with `accumulate`
 */
export function callRmsNormBackward(
  label: string,
  t: {
    readonly x: Tensor;
    readonly weight: Tensor;
    readonly dy: Tensor;
    readonly residual?: Tensor;
    readonly dx: Tensor;
  },
  s: { readonly rows: number; readonly D: number; readonly eps: number; readonly accumulate?: boolean },
): Call {
  const { accumulate = false, ...sizes } = s;
  return {
    kernel: accumulate ? rmsNormBackwardAdd : rmsNormBackward,
    label,
    tensors: { ...t },
    sizes,
    options: { ...loads(label, t.x, sizes.D), RESIDUAL: t.residual !== undefined, ADD: accumulate },
  };
}
