/**
 * Modules that share their input (q, k and v; gate and up) as one: their factors A lie one after the other in the arena, so
 * [sum of ranks, in] is one matrix, and p = s x At, and the gradient of A, are one call for all of them.
 */
import { callLowrankDown, callLowrankGradient, type Members } from "../kernels/lowrank.js";
import type { Call } from "../program/kernel.js";
import { alignedBytes, tensor, tensorBytes, type Tensor } from "../program/tensor.js";
import type { Linear } from "./linear.js";

export interface SharedInput {
  readonly paths: readonly string[];
  readonly in: number;
  /** Of each module. */
  readonly rank: number;
  readonly scaling: number;
  /** [modules * rank, in] */
  readonly a: Tensor;
  readonly gradient: Tensor;
}

/** Tensors of one arena, each where the one before ends, as one; nothing where there are gaps. */
function stacked(parts: readonly Tensor[], shape: readonly number[]): Tensor | undefined {
  const [first] = parts;
  if (!first?.arena) return undefined;
  const { arena } = first;
  let at = arena.offsetBytes;
  for (const t of parts) {
    if (t.arena?.name !== arena.name || t.arena.offsetBytes !== at) return undefined;
    at += tensorBytes(t);
  }
  return tensor(`${first.name} and ${parts.length - 1} more`, shape, first.dtype, first.kind, arena);
}

/** The modules as one, where that is possible: two or more with adapters of one rank and scaling, without gaps between them. */
export function sharedInput(linears: readonly Linear[]): SharedInput | undefined {
  const adapters = linears.flatMap(({ adapter }) => (adapter ? [adapter] : []));
  const [first] = adapters;
  if (!first || adapters.length < 2) return undefined;
  const { rank, scaling, in: inputs } = first;
  if (adapters.some((a) => a.rank !== rank || a.scaling !== scaling || a.in !== inputs)) return undefined;
  const shape = [adapters.length * rank, inputs];
  const a = stacked(
    adapters.map(({ parameters }) => parameters.a),
    shape,
  );
  const gradient = stacked(
    adapters.map(({ gradients }) => gradients.a),
    shape,
  );
  if (!a || !gradient) return undefined;
  return { paths: adapters.map(({ path }) => path), in: inputs, rank, scaling, a, gradient };
}

/** Rows of `rank` values for each module: a block for each, so that products bind their own. */
export interface SharedRows {
  readonly base: Tensor;
  readonly rows: number;
  readonly strideBytes: number;
}

export function sharedRows(name: string, rows: number, { rank, paths }: SharedInput): SharedRows {
  const strideBytes = alignedBytes(tensor(name, [rows, rank]));
  return { base: tensor(name, [(paths.length * strideBytes) / 4]), rows, strideBytes };
}

/**
 * Rows of one module.
 * @param first where they start: whole multiples of 256 bytes
 */
export function memberRows(
  { base, strideBytes }: SharedRows,
  { rank, paths }: SharedInput,
  path: string,
  { first, count }: { readonly first: number; readonly count: number },
): Tensor {
  const offsetBytes = paths.indexOf(path) * strideBytes + first * rank * 4;
  return {
    name: `${base.name} ${path}[${first}:${first + count}]`,
    shape: [count, rank],
    dtype: base.dtype,
    kind: base.kind,
    view: { base, offsetBytes },
  };
}

/** Rows of all modules, from `first` on. */
function allRows({ base, rows }: SharedRows, { rank }: SharedInput, first: number): Tensor {
  const [elements = 0] = base.shape;
  if (first === 0) return base;
  return {
    name: `${base.name}[${first}:${rows}]`,
    shape: [elements - first * rank],
    dtype: base.dtype,
    kind: base.kind,
    view: { base, offsetBytes: first * rank * 4 },
  };
}

const members = ({ rank }: SharedInput, { strideBytes }: SharedRows): Members => ({
  rank,
  stride: strideBytes / 4,
});

/** p = s x At of all modules. @param first the first of N rows */
export function sharedDownCall(
  shared: SharedInput,
  x: Tensor,
  p: SharedRows,
  { N, first }: { readonly N: number; readonly first: number },
): Call {
  const { paths, rank, scaling: alpha, in: K, a } = shared;
  return callLowrankDown(
    `${paths.join(", ")} down`,
    { x, w: a, p: allRows(p, shared, first) },
    { N, K, rank: paths.length * rank, alpha, layout: "rows", members: members(shared, p) },
  );
}

/** The gradients of all factors A. @param q e B of all modules */
export function sharedGradientCall(shared: SharedInput, x: Tensor, q: SharedRows, N: number): Call {
  const { paths, rank, in: K, gradient } = shared;
  return callLowrankGradient(
    `${paths.join(", ")} dA`,
    { wide: x, narrow: q.base, gradient },
    { N, K, rank: paths.length * rank, layout: "rows", members: members(shared, q) },
  );
}
