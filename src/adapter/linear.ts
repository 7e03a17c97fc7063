/**
 * One linear module as program fragments: y = g * (x Wt + s x At Bt) + bias, and its backward.
 * g = m / ||W + sBA|| (DoRA, arXiv 2402.09353; the norm is a constant in backward, section 4.3), or 1 (LoRA).
 */
import { callDoraBackward, MOST_FUSED_RANK, type FactorGradient, type TurnBack } from "../kernels/dora.js";
import { callLowrankDown, callLowrankGradient } from "../kernels/lowrank.js";
import { callProductBackward, callProductForward, type HalfInputs } from "../kernels/product.js";
import type { LinearWeight } from "../kernels/weight.js";
import type { Call } from "../program/kernel.js";
import { tensor, type Tensor } from "../program/tensor.js";
import type { ModuleAdapter } from "./layout.js";

export interface Linear {
  readonly path: string;
  readonly weight: LinearWeight;
  /** [out, 2] (g, bias), or [out, 1] g of a module without bias: g is written by the row norms with DoRA and 1 without; absent where neither is. */
  readonly scaleBias?: Tensor;
  /** [out] ||W_j||^2 of the (dequantised) base. DoRA only. */
  readonly rowSquares?: Tensor;
  readonly adapter?: ModuleAdapter;
}

/** p = s x At: kept for backward. Nothing for a module without adapter. */
export function lowrankCalls(linear: Linear, x: Tensor, p: Tensor | undefined, N: number): readonly Call[] {
  const { adapter } = linear;
  if (!adapter || !p) return [];
  return [
    callLowrankDown(
      `${linear.path} down`,
      { x, w: adapter.parameters.a, p },
      {
        N,
        K: adapter.in,
        rank: adapter.rank,
        alpha: adapter.scaling,
        layout: "rows",
      },
    ),
  ];
}

export interface ForwardTensors {
  /** [N, in] */
  readonly x: Tensor;
  /** [N, rank], from `lowrankCalls`. */
  readonly p?: Tensor | undefined;
  /** [N, out] */
  readonly y: Tensor;
  /** [N, out], added in the epilogue. */
  readonly residual?: Tensor;
}

/** y = g * (x Wt + p Bt) + bias + residual. */
export function productCall(
  linear: Linear,
  t: ForwardTensors,
  s: { readonly N: number; readonly yRow?: number; readonly half?: HalfInputs },
): Call {
  const { adapter } = linear;
  return callProductForward(
    `${linear.path} forward`,
    {
      x: t.x,
      weight: linear.weight,
      y: t.y,
      ...(adapter && t.p && { p: t.p, b: adapter.parameters.b }),
      ...(linear.scaleBias && { scale_bias: linear.scaleBias }),
      ...(t.residual && { residual: t.residual }),
    },
    { ...s, ...(adapter && { rank: adapter.rank }) },
  );
}

export interface BackwardTensors {
  readonly x: Tensor;
  readonly p?: Tensor | undefined;
  /** The module's output, and the residual that was added to it: (y - residual - bias) / m is W'x / ||W'||. */
  readonly y: Tensor;
  readonly residual?: Tensor;
  /** y was turned by RoPE since. */
  readonly turned?: TurnBack | undefined;
  /** [N, out] gradient of the output. */
  readonly dy: Tensor;
  /** Which of both nobody needs afterwards: with DoRA g * dy takes its place. */
  readonly spent: "dy" | "y";
  /** [N, in]; left out where nobody below needs a gradient. */
  readonly dx?: Tensor;
}

export interface BackwardSizes {
  readonly N: number;
  /** The most rows there can be. */
  readonly capacity: number;
  /** Tells the chunk's own tensors from those of other chunks. */
  readonly name: string;
  readonly accumulate?: boolean;
  /** The product with W may round its inputs to f16. */
  readonly half?: boolean;
  /** f32 [capacity, rank] for e B, of which somebody else makes the gradient of A; else that is made here. */
  readonly q?: Tensor | undefined;
}

/** Whether the gradient of B comes of the magnitude's pass over dy. */
const isFused = ({ adapter }: Linear): boolean =>
  adapter?.parameters.magnitude !== undefined && adapter.rank <= MOST_FUSED_RANK;

/** Where a pass that has both adds the gradients of B and m. */
function bothGradients({ path, rank, gradients }: ModuleAdapter, p: Tensor): FactorGradient {
  const { b, magnitude } = gradients;
  if (!b.arena || !magnitude?.arena) throw new Error(`${path}: its gradients are in no arena`);
  const { name, bytes } = b.arena;
  return {
    p,
    gradient: tensor(`${name} as a whole`, [bytes / 4], "f32", b.kind, { name, bytes, offsetBytes: 0 }),
    rank,
    bAt: b.arena.offsetBytes / 4,
    mAt: magnitude.arena.offsetBytes / 4,
  };
}

/**
 * DoRA: g * dy in the place of what is spent, which is what the factors and x want to know of dy, the magnitude's gradient,
 * and up to rank 16 that of B.
 */
export function magnitudeCalls(
  linear: Linear,
  t: Pick<BackwardTensors, "p" | "y" | "residual" | "turned" | "dy" | "spent">,
  { N }: { readonly N: number },
): readonly Call[] {
  const { adapter, scaleBias } = linear;
  const magnitude = adapter?.parameters.magnitude;
  const own = adapter?.gradients.magnitude;
  if (!adapter || !magnitude || !own || !scaleBias) return [];
  const { dy, y, residual, turned, spent: over } = t;
  const both = t.p && isFused(linear) ? bothGradients(adapter, t.p) : undefined;
  return [
    callDoraBackward(
      `${linear.path} ${both ? "dB, dm" : "dm"}`,
      { dy, y, scale_bias: scaleBias, magnitude, gradient: both ?? own, ...(residual && { residual }) },
      { N, out: adapter.out, over, turned },
    ),
  ];
}

/** Gradients of A, B and m (accumulated) and of x (written, or added with `accumulate`). */
export function backwardCalls(linear: Linear, t: BackwardTensors, s: BackwardSizes): readonly Call[] {
  const e = linear.adapter?.parameters.magnitude ? t[t.spent] : t.dy;
  return [...magnitudeCalls(linear, t, s), ...factorCalls(linear, { ...t, e }, s)];
}

/** What follows `magnitudeCalls`: gradients of A (and of B where that has not made it) accumulated, and that of x. */
export function factorCalls(
  linear: Linear,
  t: Pick<BackwardTensors, "x" | "p" | "dx"> & { readonly e: Tensor },
  s: BackwardSizes,
): readonly Call[] {
  const { adapter } = linear;
  const { e } = t;
  const { N } = s;
  const calls: Call[] = [];
  let q: Tensor | undefined;
  if (adapter && t.p) {
    const { rank, gradients, parameters, in: inputs, out, scaling: alpha } = adapter;
    q = s.q ?? tensor(`${linear.path}${s.name}.q`, [s.capacity, rank]);
    if (!isFused(linear)) {
      calls.push(
        callLowrankGradient(
          `${linear.path} dB`,
          { wide: e, narrow: t.p, gradient: gradients.b },
          { N, K: out, rank, layout: "columns" },
        ),
      );
    }
    calls.push(
      callLowrankDown(
        `${linear.path} eB`,
        { x: e, w: parameters.b, p: q },
        { N, K: out, rank, alpha, layout: "columns" },
      ),
    );
    if (!s.q) {
      calls.push(
        callLowrankGradient(
          `${linear.path} dA`,
          { wide: t.x, narrow: q, gradient: gradients.a },
          { N, K: inputs, rank, layout: "rows" },
        ),
      );
    }
  }
  if (t.dx) {
    calls.push(
      callProductBackward(
        `${linear.path} dX`,
        { e, weight: linear.weight, dx: t.dx, ...(adapter && q && { q, a: adapter.parameters.a }) },
        {
          N,
          ...(adapter && { rank: adapter.rank }),
          ...(s.accumulate && { accumulate: true }),
          ...(s.half && { half: true }),
        },
      ),
    );
  }
  return calls;
}
