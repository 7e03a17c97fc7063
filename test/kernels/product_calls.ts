/** Product calls with seeded data, forward and backward, and the odd shapes that all variants are tested with. */
import { callProductBackward, callProductForward, type HalfInputs } from "../../src/kernels/product.js";
import type { Weight } from "../../src/kernels/weight.js";
import type { Call } from "../../src/program/kernel.js";
import { elementCount, given, randomF32 } from "./harness.js";
import { testWeight, type TestFormat } from "./product_data.js";

export interface Extras {
  readonly rank?: number;
  readonly scaleBias?: boolean | "scale";
  readonly residual?: boolean;
  /** x and y start in the middle of larger tensors. */
  readonly offsets?: boolean;
  readonly accumulate?: boolean;
  readonly blockSize?: number;
  /** Inputs may be f16, rounded or (forward alone) split into sums of two. */
  readonly half?: HalfInputs;
}

export interface Case extends Extras {
  readonly format: TestFormat;
  readonly N: number;
  readonly out: number;
  readonly in: number;
}

/** g alone, or g and bias. */
const scaleWidth = (c: Case): number => (c.scaleBias === "scale" ? 1 : 2);

/** The call alone: data of large sizes takes seconds. */
export function forwardCall(c: Case, weight: Weight): Call {
  const rank = c.rank ?? 0;
  const place = c.offsets ? { xRow: 3, yRow: 2, yColumn: 5, yStride: c.out + 9 } : {};
  const x = given("x", [c.N + (c.offsets ? 4 : 0), c.in]);
  const y = given("y", [c.N + (c.offsets ? 3 : 0), c.offsets ? c.out + 9 : c.out]);
  return callProductForward(
    "test",
    {
      x,
      weight,
      y,
      ...(rank > 0 && { p: given("p", [c.N, rank]), b: given("b", [c.out, rank]) }),
      ...(c.scaleBias && { scale_bias: given("scale_bias", [c.out, scaleWidth(c)]) }),
      ...(c.residual && { residual: given("residual", [c.N, c.out]) }),
    },
    { N: c.N, rank, ...place, ...(c.half && { half: c.half }) },
  );
}

export function forward(c: Case): { call: Call; data: Record<string, ArrayBufferView> } {
  const { weight, data } = testWeight(c.format, c.out, c.in, c.blockSize);
  const call = forwardCall(c, weight);
  const rank = c.rank ?? 0;
  const count = (name: string): number => elementCount(call.tensors[name]!);
  return {
    call,
    data: {
      ...data,
      x: randomF32(count("x"), 1),
      p: randomF32(c.N * rank, 2),
      b: randomF32(c.out * rank, 3),
      scale_bias: randomF32(scaleWidth(c) * c.out, 4),
      residual: randomF32(c.N * c.out, 5),
      y: randomF32(count("y"), 6),
    },
  };
}

export function backward(c: Case): { call: Call; data: Record<string, ArrayBufferView> } {
  const { weight, data } = testWeight(c.format, c.out, c.in, c.blockSize);
  const rank = c.rank ?? 0;
  const place = c.offsets ? { dyRow: 2, dyColumn: 5, dyStride: c.out + 9, dxRow: 3 } : {};
  const dy = given("dy", [c.N + (c.offsets ? 3 : 0), c.offsets ? c.out + 9 : c.out]);
  const dx = given("dx", [c.N + (c.offsets ? 4 : 0), c.in]);
  const call = callProductBackward(
    "test",
    {
      dy,
      weight,
      dx,
      ...(rank > 0 && { q: given("q", [c.N, rank]), a: given("a", [rank, c.in]) }),
      ...(c.scaleBias && { scale_bias: given("scale_bias", [c.out, scaleWidth(c)]) }),
    },
    {
      N: c.N,
      rank,
      ...place,
      ...(c.accumulate && { accumulate: true }),
      ...(c.half && { half: true }),
    },
  );
  return {
    call,
    data: {
      ...data,
      x: randomF32(dy.shape[0]! * dy.shape[1]!, 1),
      p: randomF32(c.N * rank, 2),
      b: randomF32(rank * c.in, 3),
      scale_bias: randomF32(scaleWidth(c) * c.out, 4),
      y: randomF32(dx.shape[0]! * c.in, 6),
    },
  };
}

export const describeCase = (c: Case): string =>
  `${c.format}, N ${c.N}, ${c.in} -> ${c.out}` +
  Object.entries(c)
    .filter(([k]) => !["format", "N", "in", "out"].includes(k))
    .map(([k, v]) => `, ${k} ${v}`)
    .join("");

/** As large as the tiles of a real run, for software adapters: what other variants have of that is in CASES. */
export const LARGE: readonly Case[] = [
  { format: "nf4 nested", N: 112, in: 512, out: 1536, rank: 12, scaleBias: "scale" },
  { format: "bf16", N: 112, in: 512, out: 1536, scaleBias: "scale" },
  { format: "f32", N: 64, in: 1024, out: 768 },
];

/** The software variant takes aligned shapes only: rows of whole words, vectors and blocks. */
export const CASES: readonly (Case & { readonly software: boolean })[] = [
  { format: "nf4", N: 33, in: 576, out: 192, software: true },
  { format: "nf4", N: 65, in: 192, out: 100, rank: 16, software: true },
  {
    format: "nf4 nested",
    N: 7,
    in: 64,
    out: 65,
    rank: 5,
    scaleBias: "scale",
    residual: true,
    offsets: true,
    software: true,
  },
  { format: "nf4 nested", N: 1, in: 1536, out: 64, rank: 8, software: true },
  {
    format: "nf4 nested",
    N: 33,
    in: 128,
    out: 576,
    blockSize: 128,
    scaleBias: true,
    accumulate: true,
    software: true,
  },
  { format: "nf4", N: 7, in: 33, out: 65, rank: 3, residual: true, accumulate: true, software: false },
  { format: "nf4 nested", N: 65, in: 100, out: 33, scaleBias: true, offsets: true, software: false },
  { format: "nf4", N: 3, in: 40, out: 96, software: false },
  {
    format: "f32",
    N: 33,
    in: 100,
    out: 65,
    rank: 4,
    scaleBias: true,
    offsets: true,
    accumulate: true,
    software: true,
  },
  { format: "f32", N: 5, in: 33, out: 7, rank: 2, software: false },
  { format: "bf16", N: 33, in: 64, out: 321, rank: 4, scaleBias: true, accumulate: true, software: true },
  { format: "bf16", N: 7, in: 33, out: 9, scaleBias: "scale", offsets: true, software: false },
  { format: "f16", N: 9, in: 576, out: 65, scaleBias: true, residual: true, offsets: true, software: true },
  { format: "f16", N: 2, in: 35, out: 9, software: false },
  { format: "int8", N: 33, in: 576, out: 321, accumulate: true, software: true },
  { format: "int8", N: 65, in: 72, out: 100, rank: 5, scaleBias: true, offsets: true, software: true },
  { format: "int8", N: 7, in: 33, out: 65, rank: 3, residual: true, accumulate: true, software: false },
  { format: "int8", N: 9, in: 100, out: 33, offsets: true, software: false },
  { format: "int8", N: 1, in: 1160, out: 65, rank: 8, software: true },
  { format: "int8", N: 3, in: 37, out: 9, scaleBias: "scale", software: false },
  { format: "int8", N: 4, in: 64, out: 5, software: true },
  { format: "nf4 nested", N: 4, in: 1088, out: 70, rank: 5, scaleBias: "scale", software: true },
  { format: "nf4", N: 1, in: 33, out: 65, residual: true, offsets: true, software: false },
  { format: "bf16", N: 3, in: 1160, out: 9, rank: 70, software: true },
  { format: "f16", N: 4, in: 64, out: 5, software: true },
  { format: "f32", N: 1, in: 100, out: 7, scaleBias: "scale", software: true },
];
