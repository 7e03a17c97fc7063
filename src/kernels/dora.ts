/**
 * DoRA's magnitude gradient (arXiv 2402.09353; the norm is a constant in backward, section 4.3, as in PEFT), and up to rank 16 that of B
 * of the same pass. e = g dy, which x and the factors learn from, is never written: who reads dy scales rows of W and B instead.
 */
import {
  bound,
  option,
  size,
  type Call,
  type Kernel,
  type NumberArray,
  type TwinMemory,
} from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { isTimed, sharedTokens } from "./split.js";

/** Lanes of four columns each on a software adapter: few, so that k and v make work for all cores; 8, 32 and 64 took longer. */
const SOFTWARE_LANES = 16;

/** Up to this rank the gradient of B comes of the same pass: a lane has sums for each. */
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

/** The step of bfp16's numbers in the block of four that has an element. */
function blockStep(values: NumberArray, at: number): number {
  const first = at - (at % 4);
  const most = Math.max(...[0, 1, 2, 3].map((i) => Math.abs(values[first + i]!)));
  return most === 0 ? 0 : 2 ** (Math.floor(Math.log2(most)) - 12);
}

/** 0 where a sum is within three standard deviations of what rounding adds up to; see dora_backward_bindings.wgsl. */
const resolved = (sum: number, noise: number): number =>
  sum === 0 ? 0 : sum * Math.max(0, 1 - (1.5 * noise) / sum ** 2);

/** Whether rows are whole quads of columns, and RoPE's partners of a quad are a quad. Heads of 100 are not, and run as on other adapters. */
const areQuads = (call: Call): boolean =>
  size(call, "out") % 4 === 0 && (option(call, "TURNED") === 0 || size(call, "headDim") % 8 === 0);

export const doraBackward: Kernel = {
  name: "dora_backward",
  bindings: {
    dy: "read",
    y: "read",
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
      accepts: (call, traits) => traits.isSoftware && areQuads(call),
      defines: (call) => ({ ...call.options, LANES: SOFTWARE_LANES }),
      grid: (call) => [Math.ceil(size(call, "out") / (4 * SOFTWARE_LANES)), 1, 1],
    },
    {
      name: "column",
      file: "dora_backward.wgsl",
      accepts: () => true,
      isTimed,
      defines: (call) => ({ ...call.options, ...sharedTokens(size(call, "out")) }),
      grid: (call, d) => [Math.ceil(size(call, "out") / Number(d["LANES"])), 1, 1],
    },
  ],
  twin(memory, call) {
    const [dy, y, residual, scaleBias] = [
      bound(memory, "dy"),
      bound(memory, "y"),
      memory["residual"],
      bound(memory, "scale_bias"),
    ];
    const magnitude = bound(memory, "magnitude");
    const rank = option(call, "RANKS");
    const [ofM, ofB] =
      rank > 0
        ? [
            bound(memory, "gradient").subarray(size(call, "mAt")),
            bound(memory, "gradient").subarray(size(call, "bAt")),
          ]
        : [bound(memory, "magnitude_gradient")];
    const u = option(call, "TURNED") ? turnedBack(memory, call) : y;
    const [N, out] = [size(call, "N"), size(call, "out")];
    const isOnly = option(call, "SCALE_ONLY") === 1;
    const isRounded = option(call, "Y_BLOCKS") === 1 && residual !== undefined;
    for (let j = 0; j < out; j++) {
      const [scale, bias] = isOnly ? [scaleBias[j]!, 0] : [scaleBias[2 * j]!, scaleBias[2 * j + 1]!];
      let [sum, noise] = [0, 0];
      for (let t = 0; t < N; t++) {
        const at = t * out + j;
        sum += dy[at]! * (u[at]! - (residual?.[at] ?? 0) - bias);
        if (isRounded) noise += (dy[at]! * blockStep(y, at)) ** 2;
      }
      if (magnitude[j] !== 0) ofM[j] = ofM[j]! + resolved(sum, noise) / magnitude[j]!;
      if (!ofB) continue;
      const p = bound(memory, "p");
      for (let r = 0; r < rank; r++) {
        let e = 0;
        for (let t = 0; t < N; t++) e += scale * dy[t * out + j]! * p[t * rank + r]!;
        ofB[j * rank + r] = ofB[j * rank + r]! + e;
      }
    }
  },
  cost: (call) => {
    const rank = option(call, "RANKS");
    const [N, out] = [size(call, "N"), size(call, "out")];
    const y = option(call, "Y_BLOCKS") ? 2 : 4;
    const residual = option(call, "RESIDUAL_BLOCKS") ? 2 : option(call, "RESIDUAL") ? 4 : 0;
    return {
      flops: (3 + 2 * rank) * N * out,
      bytes: (4 + y + residual) * N * out + 4 * rank * (N + 2 * out),
    };
  },
};

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
 * The gradient of m: += sum_t dy (y - residual - bias_j) / m_j, 0 where m_j is 0; and of B: += sum_t g_j dy p. Where y is packed and has
 * a residual, sums that may be nothing but the rounding of both are 0.
 * @param t.dy f32 [N, out]
 * @param t.y [N, out] the module's output, with the residual that was added to it: f32, or bfp16 (out a multiple of 4)
 * @param t.residual [N, out] f32 or bfp16
 * @param t.scale_bias f32 [out, 2] g, bias; or [out, 1] g
 * @param t.gradient where the gradient of m [out] is added to, and that of B too where it comes of the same pass
 * @param s.turned y was turned after it was made; there is no residual then
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
  s: { readonly N: number; readonly out: number; readonly turned?: TurnBack | undefined },
): Call {
  const { N, out, turned } = s;
  const { gradient, ...tensors } = t;
  const factor = "rank" in gradient ? gradient : undefined;
  const isPacked = t.y.dtype === "bfp16";
  const isResidualPacked = t.residual?.dtype === "bfp16";
  if ((isPacked || isResidualPacked) && out % 4 !== 0)
    throw new Error(`${label}: blocks of four in rows of ${out}`);
  if (turned && t.residual) throw new Error(`${label}: turned, and with a residual`);
  if (factor && factor.rank > MOST_FUSED_RANK) throw new Error(`${label}: rank ${factor.rank} in one pass`);
  return {
    kernel: doraBackward,
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
      Y_BLOCKS: isPacked,
      RESIDUAL: t.residual !== undefined,
      RESIDUAL_BLOCKS: isResidualPacked,
      SCALE_ONLY: t.scale_bias.shape[1] === 1,
      TURNED: turned !== undefined,
      RANKS: factor?.rank ?? 0,
    },
  };
}
