/**
 * Products with a frozen weight W [out, in], NF4, int8 or dense: y = g * (x Wt + p Bt) + bias + residual, and dx = (g dy) W + q A.
 * One set of kernels serves both ways: rows x [N, K] times op(W) [K, M], where op transposes in forward only.
 * Inside a call the names are those of the forward way; in backward x is dy, y is dx, p is q and b is a.
 */
import {
  size,
  type Access,
  type Call,
  type Cost,
  type Defines,
  type Kernel,
  type Variant,
} from "../program/kernel.js";
import { elementCount, tensorBytes, type Tensor } from "../program/tensor.js";
import { matrixVariant, smallMatrixVariant } from "./product_matrix.js";
import { rowScaleOptions } from "./row_scale.js";
import { slicesVariant } from "./product_slices.js";
import { softwareVariant } from "./product_software.js";
import { smallTileVariant, tileVariant } from "./product_tile.js";
import { productTwin } from "./product_twin.js";
import { vectorVariant } from "./product_vector.js";
import { doubleQuantLayout, type Weight } from "./weight.js";

const SMALL = [smallMatrixVariant, smallTileVariant];

/** For generation and column norms. int8 is a head's, whose columns are many. */
const FEW_ROWS: Readonly<Record<string, readonly Variant[]>> = {
  nf4_product_forward: [vectorVariant, slicesVariant],
  dense_product_forward: [vectorVariant, slicesVariant],
  int8_product_forward: [vectorVariant],
};

function productKernel(name: string, yAccess: Access): Kernel {
  return {
    name,
    bindings: {
      x: "read",
      codes: "read",
      absmax: "read",
      values: "read",
      p: "read",
      b: "read",
      scale_bias: "read",
      residual: "read",
      y: yAccess,
    },
    variants: [softwareVariant, ...(FEW_ROWS[name] ?? []), matrixVariant, tileVariant, ...SMALL],
    twin: productTwin,
    cost: productCost,
  };
}

export const nf4ProductForward = productKernel("nf4_product_forward", "write");
export const int8ProductForward = productKernel("int8_product_forward", "write");
export const denseProductForward = productKernel("dense_product_forward", "write");
export const nf4ProductBackward = productKernel("nf4_product_backward", "write");
export const nf4ProductBackwardAdd = productKernel("nf4_product_backward_add", "update");
export const int8ProductBackward = productKernel("int8_product_backward", "write");
export const int8ProductBackwardAdd = productKernel("int8_product_backward_add", "update");
export const denseProductBackward = productKernel("dense_product_backward", "write");
export const denseProductBackwardAdd = productKernel("dense_product_backward_add", "update");

interface ProductKernels {
  readonly forward: Kernel;
  readonly backward: Kernel;
  readonly backwardAdd: Kernel;
}

const DENSE: ProductKernels = {
  forward: denseProductForward,
  backward: denseProductBackward,
  backwardAdd: denseProductBackwardAdd,
};

const KERNELS: Readonly<Record<Weight["format"], ProductKernels>> = {
  nf4: { forward: nf4ProductForward, backward: nf4ProductBackward, backwardAdd: nf4ProductBackwardAdd },
  int8: { forward: int8ProductForward, backward: int8ProductBackward, backwardAdd: int8ProductBackwardAdd },
  bf16: DENSE,
  f16: DENSE,
  f32: DENSE,
};

const NAMES: ReadonlySet<string> = new Set(
  Object.values(KERNELS).flatMap((k) => [k.forward.name, k.backward.name, k.backwardAdd.name]),
);

/** Products with frozen weights, forward and backward: what a step would be made of in the best case. */
export const isProductKernel = (name: string): boolean => NAMES.has(name);

function productCost(call: Call): Cost {
  const [N, K, M, rank] = [size(call, "N"), size(call, "K"), size(call, "M"), size(call, "rank")];
  let bytes = 4 * N * (K + M + rank);
  for (const name of ["codes", "absmax", "values", "b", "scale_bias"]) {
    const t = call.tensors[name];
    if (t) bytes += tensorBytes(t);
  }
  if (call.tensors["residual"]) bytes += 4 * N * M;
  if (call.kernel.bindings["y"] === "update") bytes += 4 * N * M;
  return { flops: 2 * N * M * (K + rank), bytes };
}

function weightTensors(w: Weight): Record<string, Tensor> {
  return "values" in w ? { values: w.values } : { codes: w.codes, absmax: w.absmax };
}

function weightOptions(w: Weight): Defines {
  switch (w.format) {
    case "nf4":
      return { NF4: true, BLOCK: w.blockSize, DOUBLE: w.doubleQuant };
    case "int8":
      return { INT8: true };
    case "bf16":
      return { BF16: true };
    case "f16":
      return { F16: true };
    case "f32":
      return {};
    default:
      throw new Error(`unknown weight format ${String(w satisfies never)}`);
  }
}

/**
 * Whether a product may compute in f16 where the adapter has matrices of it: with inputs rounded, or split into sums of two, which
 * takes three times the products of matrices and leaves hardly more error than f32's own.
 */
export type HalfInputs = boolean | "split";

/** Where the codes of double-quantised block maxima start; 0 for other weights. */
const codesWord = (w: Weight): number =>
  w.format === "nf4" && w.doubleQuant
    ? doubleQuantLayout(Math.ceil((w.out * w.in) / w.blockSize)).codesWord
    : 0;

function checkRows(label: string, t: Tensor, rows: number, stride: number): void {
  if (rows * stride > elementCount(t))
    throw new Error(`${label}: ${t.name} [${t.shape.join()}] has no ${rows} rows of ${stride}`);
}

/**
 * y[yRow + t, yColumn + j] = g_j * (sum_k x[xRow + t, k] W[j, k] + sum_r p[t, r] b[j, r]) + bias_j + residual[t, j]
 * @param t.x [rows, in] f32
 * @param t.y [rows, yStride] f32; N rows of `out` columns are overwritten
 * @param t.p [N, rank] f32, already times the LoRA scaling
 * @param t.b [out, rank] f32
 * @param t.scale_bias [out, 2] f32: g, bias; or [out, 1]: g
 * @param t.residual [N, out] f32
 * @param s.yStride row length of y, default `out`
 * @param s.half whether x, W, p and b may be f16: rounded, or split into sums of two (sums of products stay f32)
 */
export function callProductForward(
  label: string,
  t: {
    readonly x: Tensor;
    readonly weight: Weight;
    readonly y: Tensor;
    readonly p?: Tensor;
    readonly b?: Tensor;
    readonly scale_bias?: Tensor;
    readonly residual?: Tensor;
  },
  s: {
    readonly N: number;
    readonly rank?: number;
    readonly xRow?: number;
    readonly yRow?: number;
    readonly yColumn?: number;
    readonly yStride?: number;
    readonly half?: HalfInputs;
  },
): Call {
  const { weight, x, y, p, b, scale_bias, residual } = t;
  const hasLowrank = p !== undefined && b !== undefined && (s.rank ?? 0) > 0;
  const sizes = {
    N: s.N,
    K: weight.in,
    M: weight.out,
    rank: hasLowrank ? (s.rank ?? 0) : 0,
    xRow: s.xRow ?? 0,
    xColumn: 0,
    xStride: weight.in,
    yRow: s.yRow ?? 0,
    yColumn: s.yColumn ?? 0,
    yStride: s.yStride ?? weight.out,
    codesWord: codesWord(weight),
  };
  checkRows(label, x, sizes.xRow + s.N, sizes.xStride);
  checkRows(label, y, sizes.yRow + s.N, sizes.yStride);
  return {
    kernel: KERNELS[weight.format].forward,
    label,
    tensors: {
      x,
      ...weightTensors(weight),
      y,
      ...(hasLowrank && { p, b }),
      ...(scale_bias && { scale_bias }),
      ...(residual && { residual }),
    },
    sizes,
    options: {
      ...weightOptions(weight),
      LOWRANK: hasLowrank,
      SCALE_BIAS: scale_bias !== undefined,
      SCALE_ONLY: scale_bias?.shape[1] === 1,
      RESIDUAL: residual !== undefined,
      ...(s.half && { HALF: true }),
      ...(s.half === "split" && { SPLIT: true }),
    },
  };
}

/**
 * dx[dxRow + t, i] (+)= sum_j g_j dy[dyRow + t, dyColumn + j] W[j, i] + sum_r q[t, r] a[r, i]
 * @param t.dy [rows, dyStride] f32
 * @param t.scale_bias [out, 2] f32: g, bias; or [out, 1]: g; default g = 1
 * @param t.dx [rows, in] f32; N rows are overwritten, or added to with `accumulate`
 * @param t.q [N, rank] f32, already times the LoRA scaling
 * @param t.a [rank, in] f32
 * @param s.dyStride row length of dy, default `out`
 * @param s.half whether dy, g W, q and a may be rounded to f16 (sums stay f32)
 */
export function callProductBackward(
  label: string,
  t: {
    readonly dy: Tensor;
    readonly weight: Weight;
    readonly dx: Tensor;
    readonly q?: Tensor;
    readonly a?: Tensor;
    readonly scale_bias?: Tensor | undefined;
  },
  s: {
    readonly N: number;
    readonly rank?: number;
    readonly dyRow?: number;
    readonly dyColumn?: number;
    readonly dyStride?: number;
    readonly dxRow?: number;
    readonly accumulate?: boolean;
    readonly half?: boolean;
  },
): Call {
  const { weight, dy, dx, q, a, scale_bias } = t;
  const hasLowrank = q !== undefined && a !== undefined && (s.rank ?? 0) > 0;
  const sizes = {
    N: s.N,
    K: weight.out,
    M: weight.in,
    rank: hasLowrank ? (s.rank ?? 0) : 0,
    xRow: s.dyRow ?? 0,
    xColumn: s.dyColumn ?? 0,
    xStride: s.dyStride ?? weight.out,
    yRow: s.dxRow ?? 0,
    yColumn: 0,
    yStride: weight.in,
    codesWord: codesWord(weight),
  };
  checkRows(label, dy, sizes.xRow + s.N, sizes.xStride);
  checkRows(label, dx, sizes.yRow + s.N, sizes.yStride);
  const { backward, backwardAdd } = KERNELS[weight.format];
  return {
    kernel: s.accumulate ? backwardAdd : backward,
    label,
    tensors: {
      x: dy,
      ...weightTensors(weight),
      y: dx,
      ...(hasLowrank && { p: q, b: a }),
      ...(scale_bias && { scale_bias }),
    },
    sizes,
    options: {
      ...weightOptions(weight),
      BACKWARD: true,
      LOWRANK: hasLowrank,
      ADD: s.accumulate === true,
      ...rowScaleOptions(scale_bias),
      ...(s.half && { HALF: true }),
    },
  };
}
