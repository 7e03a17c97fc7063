/**
 * The contract between programs and kernels. A kernel is one operation with a f64 twin, a cost and one or more WGSL
 * variants; a call is a kernel over named tensors with sizes. Programs are plain lists of calls, built with no GPU in sight.
 */
import type { AdapterTraits } from "../gpu/traits.js";
import type { Tensor } from "./tensor.js";

/** `read`; `write`: every element the call covers is overwritten; `update`: read and then overwritten. */
export type Access = "read" | "write" | "update";

/** Values for the WGSL preprocessor; together with the file they are the identity of a pipeline. */
export type Defines = Readonly<Record<string, number | boolean>>;

export type NumberArray = Float32Array | Float64Array | Uint32Array | Int32Array | Uint8Array;

/** What a twin sees: one array per bound tensor, elements decoded (bf16 and f16 arrive as f32 values). */
export type TwinMemory = Readonly<Record<string, NumberArray>>;

export interface Cost {
  /** Floating point operations, a multiply-add counted as two. */
  readonly flops: number;
  /** Bytes that must move at least once. */
  readonly bytes: number;
}

export interface Call {
  readonly kernel: Kernel;
  /** Where in the model: "layers.3.q_proj forward". Shown in errors and profiles. */
  readonly label: string;
  /** Bound tensors by binding name. A binding of the kernel that is missing here is optional and off. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  /** Numbers that may change from run to run: they become uniforms. */
  readonly sizes: Readonly<Record<string, number>>;
  /** What the code is specialised for; the same for every token count. */
  readonly options: Defines;
  /** Run only when A, B or the magnitude changed since the last run (row norms). */
  readonly onlyAfterUpdate?: boolean;
  /** For a call over a chunk of the stream: its tokens. Calls of one chunk have as many of them for every token count. */
  readonly chunk?: string;
  /** For a transfer: the name of the bytes on the host. */
  readonly host?: string;
}

export interface Variant {
  /** Unique among the kernel's variants: "software", "tile". */
  readonly name: string;
  /** File in wgsl/. */
  readonly file: string;
  /** Whether this variant gives right numbers for the call on such an adapter. */
  accepts(call: Call, traits: AdapterTraits): boolean;
  /** Whether it may be the fastest there; the tuner leaves it out where it cannot be. Default: it may. */
  isTimed?(traits: AdapterTraits): boolean;
  /** Preprocessor values. `call` is the call at full capacity, so that they never depend on the tokens of one batch. */
  defines(call: Call, traits: AdapterTraits): Defines;
  /** Workgroups for the sizes of this call; a zero skips the dispatch. Each at most 65,535: see `grid1d`. */
  grid(call: Call, defines: Defines): readonly [number, number, number];
}

export interface Kernel {
  /** `<op>_forward`, `<op>_backward` or `<op>`. */
  readonly name: string;
  readonly bindings: Readonly<Record<string, Access>>;
  /** Set for calls that no shader runs: they move a tensor from or to the host. */
  readonly transfer?: "upload" | "download";
  /** In order of preference when nothing was measured: the first that accepts the call is taken. */
  readonly variants: readonly Variant[];
  /** The readable f64 version: `memory` holds the arrays, results are written in place. */
  twin(memory: TwinMemory, call: Call): void;
  cost(call: Call): Cost;
}

/** A list of calls that runs as a whole, with the sizes of one token count. */
export interface Program {
  readonly name: string;
  readonly calls: readonly Call[];
}

/** A size of a call; a missing one is a mistake of the builder. */
export function size(call: Call, name: string): number {
  const value = call.sizes[name];
  if (value === undefined) throw new Error(`${call.kernel.name} (${call.label}) has no size ${name}`);
  return value;
}

/** An option as a number (true = 1), 0 where the call does not have it. */
export const option = (call: Call, name: string): number => Number(call.options[name] ?? 0);

/** A bound array of a twin; a missing one is a mistake of the builder. */
export function bound(memory: TwinMemory, name: string): NumberArray {
  const array = memory[name];
  if (array === undefined) throw new Error(`twin needs the tensor ${name}`);
  return array;
}

/**
 * Workgroups for `items` one after the other, folded into two dimensions beyond 65,535.
 * WGSL reads the index back as `wg.y * GRID_FOLD + wg.x` with GRID_FOLD = 32768.
 */
export function grid1d(items: number): readonly [number, number, number] {
  return items <= GRID_FOLD ? [items, items === 0 ? 0 : 1, 1] : [GRID_FOLD, Math.ceil(items / GRID_FOLD), 1];
}

export const GRID_FOLD = 32768;
