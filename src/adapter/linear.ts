/**
 * One linear module as program fragments: y = g * (x Wt + s x At Bt) + bias, and its backward.
 * g = m / ||W + sBA|| (DoRA, arXiv 2402.09353; the norm is a constant in backward, section 4.3), or 1 (LoRA).
 */
import { callDoraBackward, MOST_FUSED_RANK, type FactorGradient, type TurnBack } from "../kernels/dora.js";
import { callLowrankDown, callLowrankGradient } from "../kernels/lowrank.js";
import { callProductBackward, callProductForward, type HalfInputs } from "../kernels/product.js";
import type { OwnMagnitude, OwnMagnitudes } from "../kernels/swiglu.js";
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
  /** Where there is a magnitude: the module's output, and the residual that was added to it; (y - residual - bias) / m is W'x / ||W'||. */
  readonly y?: Tensor;
  readonly residual?: Tensor;
  /** y was turned by RoPE since. */
  readonly turned?: TurnBack | undefined;
  /** [N, out] gradient of the output. */
  readonly dy: Tensor;
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
const isFused = ({ adapter }: Linear, p: Tensor | undefined): p is Tensor =>
  p !== undefined && adapter?.parameters.magnitude !== undefined && adapter.rank <= MOST_FUSED_RANK;

/** The arena that has some gradients, and the elements at which they begin. */
function inArena(
  path: string,
  ...gradients: readonly (Tensor | undefined)[]
): readonly [Tensor, ...number[]] {
  const places = gradients.flatMap((t) => t?.arena ?? []);
  const [first] = places;
  if (!first || places.length < gradients.length || places.some(({ name }) => name !== first.name))
    throw new Error(`${path}: its gradients are not in one arena`);
  const { name, bytes } = first;
  const whole = tensor(`${name} as a whole`, [bytes / 4], "f32", "gradient", { name, bytes, offsetBytes: 0 });
  return [whole, ...places.map(({ offsetBytes }) => offsetBytes / 4)];
}

/** Where a pass that has both adds the gradients of B and m. */
function bothGradients({ path, rank, gradients }: ModuleAdapter, p: Tensor): FactorGradient {
  const [gradient, bAt = 0, mAt = 0] = inArena(path, gradients.b, gradients.magnitude);
  return { p, gradient, rank, bAt, mAt };
}

/** The magnitudes of gate and up, of which SwiGLU's backward makes the gradients, and the arena of these; nothing where neither has one. */
export function mlpMagnitudes(
  gate: Linear,
  up: Linear,
): { readonly modules: OwnMagnitudes; readonly gradient: Tensor } | undefined {
  const both = [gate, up].map(({ adapter, scaleBias: scale_bias }) => {
    const magnitude = adapter?.parameters.magnitude;
    const gradient = adapter?.gradients.magnitude;
    return magnitude && gradient && scale_bias && { magnitude, gradient, scale_bias };
  });
  const gradients = both.flatMap((own) => (own ? [own.gradient] : []));
  if (gradients.length === 0) return undefined;
  const [gradient, ...starts] = inArena(`${gate.path}, ${up.path}`, ...gradients);
  const [ofGate, ofUp] = both.map((own): OwnMagnitude | undefined => {
    if (!own) return undefined;
    const { magnitude, scale_bias } = own;
    return { magnitude, scale_bias, at: starts.shift() ?? 0 };
  });
  return { modules: { gate: ofGate, up: ofUp }, gradient };
}

/** g of a module whose output's gradient is g dy to x and the factors. */
const rowScale = ({ adapter, scaleBias }: Linear): Tensor | undefined =>
  adapter?.parameters.magnitude && scaleBias;

/** DoRA: the magnitude's gradient, and up to rank 16 that of B. */
function magnitudeCalls(
  linear: Linear,
  t: Pick<BackwardTensors, "p" | "y" | "residual" | "turned" | "dy">,
  { N }: { readonly N: number },
): readonly Call[] {
  const { adapter, scaleBias } = linear;
  const magnitude = adapter?.parameters.magnitude;
  const own = adapter?.gradients.magnitude;
  if (!adapter || !magnitude || !own || !scaleBias) return [];
  const { dy, y, residual, turned } = t;
  if (!y) throw new Error(`${linear.path}: its magnitude needs its output`);
  const both = isFused(linear, t.p) ? bothGradients(adapter, t.p) : undefined;
  return [
    callDoraBackward(
      `${linear.path} ${both ? "dB, dm" : "dm"}`,
      { dy, y, scale_bias: scaleBias, magnitude, gradient: both ?? own, ...(residual && { residual }) },
      { N, out: adapter.out, turned },
    ),
  ];
}

/** Gradients of A, B and m (accumulated) and of x (written, or added with `accumulate`). */
export function backwardCalls(linear: Linear, t: BackwardTensors, s: BackwardSizes): readonly Call[] {
  return [...magnitudeCalls(linear, t, s), ...factorCalls(linear, t, s, isFused(linear, t.p))];
}

/**
 * What follows the magnitude's gradient, whoever has made that: those of A and B accumulated, and that of x.
 * @param hasB whether the magnitude's pass has made the gradient of B
 */
export function factorCalls(
  linear: Linear,
  t: Pick<BackwardTensors, "x" | "p" | "dy" | "dx">,
  s: BackwardSizes,
  hasB = false,
): readonly Call[] {
  const { adapter } = linear;
  const { N } = s;
  const scale_bias = rowScale(linear);
  const calls: Call[] = [];
  let q: Tensor | undefined;
  if (adapter && t.p) {
    const { rank, gradients, parameters, in: inputs, out, scaling: alpha } = adapter;
    q = s.q ?? tensor(`${linear.path}${s.name}.q`, [s.capacity, rank]);
    if (!hasB) {
      calls.push(
        callLowrankGradient(
          `${linear.path} dB`,
          { wide: t.dy, narrow: t.p, gradient: gradients.b, scale_bias },
          { N, K: out, rank, layout: "columns" },
        ),
      );
    }
    calls.push(
      callLowrankDown(
        `${linear.path} eB`,
        { x: t.dy, w: parameters.b, p: q, scale_bias },
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
        {
          dy: t.dy,
          weight: linear.weight,
          dx: t.dx,
          scale_bias,
          ...(adapter && q && { q, a: adapter.parameters.a }),
        },
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
