/** DoRA's magnitude gradient (arXiv 2402.09353; the norm is a constant in backward, section 4.3, as in PEFT). */
import {
  bound,
  option,
  size,
  type Access,
  type Call,
  type Kernel,
  type NumberArray,
  type TwinMemory,
  type Variant,
} from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { sharedTokens } from "./split.js";

/** A CPU has few cores: all lanes of a workgroup read p at one address, and several tokens share the reading of sums. */
const SOFTWARE_SHAPE = { LANES: 16, COLS: 4, TOKENS: 4 };

/** Up to this rank the gradient of B comes of the same pass: a lane has a sum for each. */
export const MOST_FUSED_RANK = 16;

/** y before RoPE, which scaled it too. */
function turnedBack(memory: TwinMemory, call: Call): Float64Array {
  const [y, positions, table] = [bound(memory, "y"), bound(memory, "positions"), bound(memory, "table")];
  const [N, out, D] = [size(call, "N"), size(call, "out"), size(call, "headDim")];
  const half = D / 2;
  return Float64Array.from({ length: N * out }, (_, at) => {
    const d = at % D;
    const turn = 2 * (positions[Math.floor(at / out)]! * half + (d % half));
    const [cos, sin] = [table[turn]!, table[turn + 1]!];
    const value = d < half ? y[at]! * cos + y[at + half]! * sin : y[at]! * cos - y[at - half]! * sin;
    return size(call, "factor") * value;
  });
}

function backward(name: string, over: "dy" | "y"): Kernel {
  const access = (tensor: "dy" | "y"): Access => (tensor === over ? "update" : "read");
  return {
    name,
    bindings: {
      dy: access("dy"),
      y: access("y"),
      residual: "read",
      scale_bias: "read",
      magnitude: "read",
      magnitude_gradient: "update",
      positions: "read",
      table: "read",
      p: "read",
      gradient: "update",
    },
    variants: [
      {
        name: "software",
        file: "dora_backward_software.wgsl",
        accepts: (_, traits) => traits.isSoftware,
        defines: (call) => ({ ...call.options, ...SOFTWARE_SHAPE }),
        grid: columnTiles,
      },
      {
        name: "column",
        file: "dora_backward.wgsl",
        accepts: () => true,
        defines: (call) => ({ ...call.options, ...sharedTokens(size(call, "out")) }),
        grid: columnTiles,
      },
    ],
    twin(memory, call) {
      const [given, y, residual, scaleBias] = [
        bound(memory, "dy"),
        bound(memory, "y"),
        memory["residual"],
        bound(memory, "scale_bias"),
      ];
      const magnitude = bound(memory, "magnitude");
      const isFused = option(call, "RANKS") > 0;
      const gradient = isFused
        ? bound(memory, "gradient").subarray(size(call, "mAt"))
        : bound(memory, "magnitude_gradient");
      const e = bound(memory, over);
      const u = option(call, "TURNED") ? turnedBack(memory, call) : y;
      const [N, out] = [size(call, "N"), size(call, "out")];
      const isOnly = option(call, "SCALE_ONLY") === 1;
      for (let j = 0; j < out; j++) {
        const [scale, bias] = isOnly ? [scaleBias[j]!, 0] : [scaleBias[2 * j]!, scaleBias[2 * j + 1]!];
        let sum = 0;
        for (let t = 0; t < N; t++) {
          const at = t * out + j;
          const d = given[at]!;
          sum += d * (u[at]! - (residual?.[at] ?? 0) - bias);
          e[at] = scale * d;
        }
        if (magnitude[j] !== 0) gradient[j] = gradient[j]! + sum / magnitude[j]!;
      }
      if (isFused) factorGradient(memory, call, e);
    },
    cost: (call) => {
      const rank = option(call, "RANKS");
      const [N, out] = [size(call, "N"), size(call, "out")];
      return { flops: (4 + 2 * rank) * N * out, bytes: 12 * N * out + 4 * rank * (N + 2 * out) };
    },
  };
}

const columnTiles: Variant["grid"] = (call, d) => [
  Math.ceil(size(call, "out") / (Number(d["LANES"]) * Number(d["COLS"] ?? 1))),
  1,
  1,
];

/** The gradient of B += eT p. */
function factorGradient(memory: TwinMemory, call: Call, e: NumberArray): void {
  const [p, gradient] = [bound(memory, "p"), bound(memory, "gradient").subarray(size(call, "bAt"))];
  const [N, out, rank] = [size(call, "N"), size(call, "out"), option(call, "RANKS")];
  for (let j = 0; j < out; j++) {
    for (let r = 0; r < rank; r++) {
      let sum = 0;
      for (let t = 0; t < N; t++) sum += e[t * out + j]! * p[t * rank + r]!;
      gradient[j * rank + r] = gradient[j * rank + r]! + sum;
    }
  }
}

/** e takes the place of dy. */
export const doraBackward = backward("dora_backward", "dy");
/** e takes the place of y. */
export const doraBackwardOverY = backward("dora_backward_over_y", "y");

/** Undoes RoPE: y was turned by it. */
export interface TurnBack {
  /** f32 [positions, headDim / 2, 2] cos, sin */
  readonly table: Tensor;
  /** u32 [N] */
  readonly positions: Tensor;
  readonly headDim: number;
  /** Multiplies the result: 1, or what undoes the table's scale. */
  readonly factor: number;
}

/** The gradient of B besides, in the arena that also has that of m. */
export interface FactorGradient {
  /** f32 [N, rank] s x At */
  readonly p: Tensor;
  /** f32, the arena of gradients */
  readonly gradient: Tensor;
  /** At most `MOST_FUSED_RANK`. */
  readonly rank: number;
  /** Element of the arena at which B's gradient [out, rank] begins, added to. */
  readonly bAt: number;
  /** That of m [out]. */
  readonly mAt: number;
}

/**
 * e = g * dy, in the place of dy or of y, and the gradient of m: += sum_t dy (y - residual - bias_j) / m_j, 0 where m_j is 0.
 * @param t.dy f32 [N, out]
 * @param t.y [N, out] the module's output, with the residual that was added to it: f32, or bfp16 (out a multiple of 4) where it is only read
 * @param t.scale_bias f32 [out, 2] g, bias; or [out, 1] g
 * @param t.gradient where the gradient of m [out] is added to, and that of B too where it comes of the same pass
 * @param s.over what e overwrites: the one that nobody needs afterwards
 * @param s.turned y was turned after it was made
 */
export function callDoraBackward(
  label: string,
  t: {
    readonly dy: Tensor;
    readonly y: Tensor;
    readonly residual?: Tensor;
    readonly scale_bias: Tensor;
    readonly magnitude: Tensor;
    readonly gradient: Tensor | FactorGradient;
  },
  s: {
    readonly N: number;
    readonly out: number;
    readonly over: "dy" | "y";
    readonly turned?: TurnBack | undefined;
  },
): Call {
  const { N, out, over, turned } = s;
  const { gradient, ...tensors } = t;
  const factor = "rank" in gradient ? gradient : undefined;
  const isPacked = t.y.dtype === "bfp16";
  if ((over === "y" && (isPacked || turned)) || (isPacked && out % 4 !== 0))
    throw new Error(`${label}: ${t.y.name} is ${t.y.dtype}, in rows of ${out}; e goes over ${over}`);
  if (factor && factor.rank > MOST_FUSED_RANK) throw new Error(`${label}: rank ${factor.rank} in one pass`);
  return {
    kernel: over === "y" ? doraBackwardOverY : doraBackward,
    label,
    tensors: {
      ...tensors,
      ...("rank" in gradient
        ? { p: gradient.p, gradient: gradient.gradient }
        : { magnitude_gradient: gradient }),
      ...(turned && { positions: turned.positions, table: turned.table }),
    },
    sizes: {
      N,
      out,
      ...(turned && { headDim: turned.headDim, factor: turned.factor }),
      ...(factor && { bAt: factor.bAt, mAt: factor.mAt }),
    },
    options: {
      OVER_Y: over === "y",
      Y_BLOCKS: isPacked,
      RESIDUAL: t.residual !== undefined,
      SCALE_ONLY: t.scale_bias.shape[1] === 1,
      TURNED: turned !== undefined,
      RANKS: factor?.rank ?? 0,
    },
  };
}
