/** Tensors as descriptions: a name, a shape, a dtype and a kind. No memory is behind them until a plan is made. */

/** How elements are stored. `bf16` and `f16` are packed two to a u32, `bfp16` (quant/block_float.ts) four to two, `u8` four to one. */
export type DType = "f32" | "u32" | "i32" | "bf16" | "f16" | "bfp16" | "u8";

/** The class of memory a tensor belongs to: what `qdora plan` prints and the ledger counts. */
export type Kind =
  | "weight"
  | "embedding"
  | "head"
  | "adapter"
  | "row_norm"
  | "gradient"
  | "moment"
  | "checkpoint"
  | "cache"
  | "logits"
  | "workspace"
  | "staging"
  | "uniform";

/** A place inside a buffer that several persistent tensors share. */
export interface ArenaPlace {
  /** Name of the shared buffer. */
  readonly name: string;
  /** Size of the whole shared buffer. */
  readonly bytes: number;
  /** Where this tensor starts, a multiple of 256. */
  readonly offsetBytes: number;
}

export interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly kind: Kind;
  readonly arena?: ArenaPlace;
  /** Set for a part of another tensor: the same memory, from `offsetBytes` on. */
  readonly view?: { readonly base: Tensor; readonly offsetBytes: number };
}

const BITS: Record<DType, number> = { f32: 32, u32: 32, i32: 32, bf16: 16, f16: 16, bfp16: 16, u8: 8 };

/** Kinds that live only between their first write and their last read, and share slots. */
const TRANSIENT: ReadonlySet<Kind> = new Set<Kind>(["workspace", "logits"]);

/** Describes a tensor. Names are unique in a run: the same name is the same memory. */
export function tensor(
  name: string,
  shape: readonly number[],
  dtype: DType = "f32",
  kind: Kind = "workspace",
  arena?: ArenaPlace,
): Tensor {
  return arena ? { name, shape, dtype, kind, arena } : { name, shape, dtype, kind };
}

/** True for tensors that share slots by lifetime instead of keeping memory of their own. */
export const isTransient = (t: Tensor): boolean => TRANSIENT.has(t.kind);

export const elementCount = (t: Tensor): number => t.shape.reduce((product, n) => product * n, 1);

/** Bytes on the GPU: packed elements, rounded up to a multiple of 4. At least 4 (WebGPU binds no empty buffer). */
export const tensorBytes = (t: Tensor): number =>
  Math.max(4, Math.ceil((elementCount(t) * BITS[t.dtype]) / 32) * 4);

/** The portable alignment of a binding's offset. */
export const OFFSET_ALIGN_BYTES = 256;

/** Bytes of a tensor's place in a buffer that it shares. */
export const alignedBytes = (t: Tensor): number =>
  Math.ceil(tensorBytes(t) / OFFSET_ALIGN_BYTES) * OFFSET_ALIGN_BYTES;

/** The memory that a tensor is a part of, and where in it the tensor begins. */
export const memoryOf = ({ name, arena, view }: Tensor): Pick<ArenaPlace, "name" | "offsetBytes"> =>
  view ? { name: view.base.name, offsetBytes: view.offsetBytes } : (arena ?? { name, offsetBytes: 0 });

/**
 * Rows of a tensor as a tensor: bound alone, so that kernels know nothing of what lies before.
 * @param first where it starts: whole multiples of 256 bytes into the tensor
 */
export function rowsOf(t: Tensor, first: number, count: number): Tensor {
  const [rows = 1, ...rest] = t.shape;
  if (first === 0 && count === rows) return t;
  const base = t.view?.base ?? t;
  const rowBits = rest.reduce((product, n) => product * n, 1) * BITS[t.dtype];
  const offsetBytes = (t.view?.offsetBytes ?? 0) + (first * rowBits) / 8;
  if (first + count > rows || offsetBytes % OFFSET_ALIGN_BYTES !== 0)
    throw new Error(`${t.name} [${t.shape.join()}] has no ${count} rows that start at row ${first}`);
  return {
    name: `${t.name}[${first}:${first + count}]`,
    shape: [count, ...rest],
    dtype: t.dtype,
    kind: t.kind,
    view: { base, offsetBytes },
  };
}
