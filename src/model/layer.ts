/** What forward and backward of a decoder layer share: its activations, which of them are kept, RoPE and attention sizes. */
import { lowrankCalls, productCall, type Linear } from "../adapter/linear.js";
import { rowNormCalls } from "../adapter/row_norms.js";
import {
  memberRows,
  sharedDownCall,
  sharedGradientCall,
  sharedInput,
  sharedRows,
  type SharedInput,
  type SharedRows,
} from "../adapter/shared_input.js";
import { callConvertRows } from "../kernels/convert_rows.js";
import { callRope } from "../kernels/rope.js";
import type { Call } from "../program/kernel.js";
import { tensor, type DType, type Tensor } from "../program/tensor.js";
import type { Role } from "./modules.js";
import { chunkRows, inChunk, type Chunk, type StreamContext } from "./stream.js";
import type { LayerTensors } from "./tensors.js";

/** Activations of a layer that backward needs. */
export type Activation =
  | "h"
  | "q_raw"
  | "k_raw"
  | "q"
  | "k"
  | "v"
  | "o"
  | "lse"
  | "mid"
  | "h2"
  | "gate"
  | "up"
  | "act"
  | `${Role}.p`;

/** What forward keeps for backward; everything else is computed again. */
export type Kept = (activation: Activation) => boolean;
export const KEEP_ALL: Kept = () => true;
export const KEEP_NONE: Kept = () => false;
/** Cheap to keep, dear to compute: the attention half. */
export const KEEP_ATTENTION: Kept = (a) =>
  ["q_raw", "k_raw", "q", "k", "v", "o", "lse", "mid"].includes(a) || /^[qkvo]_proj\.p$/.test(a);

/** Forward, or the same again before backward. */
export type Pass = "forward" | "again";

/** What attention, or backward after it, needs of all tokens at once. */
const isWhole = (a: Activation, pass: Pass): boolean =>
  a === "q" ||
  a === "k" ||
  a === "v" ||
  (pass === "again" && (a === "q_raw" || a === "k_raw" || /^[qkv]_proj\.p$/.test(a)));

/** Modules that read the same rows. */
export const ATTENTION_INPUTS: readonly Role[] = ["q_proj", "k_proj", "v_proj"];
export const MLP_INPUTS: readonly Role[] = ["gate_proj", "up_proj"];

interface RoleGroup {
  /** Those with adapters. */
  readonly roles: readonly [Role, ...Role[]];
  readonly shared: SharedInput;
}

interface GroupGradients {
  rows(role: Role): Tensor | undefined;
  readonly calls: readonly Call[];
}

/** One pass over a layer: names its activations and collects calls. */
export class LayerWalk {
  readonly ctx: StreamContext;
  readonly w: LayerTensors;
  readonly pass: Pass;
  readonly kept: Kept;
  readonly calls: Call[] = [];
  readonly #groups: readonly RoleGroup[];

  constructor(ctx: StreamContext, w: LayerTensors, pass: Pass, kept: Kept) {
    this.ctx = ctx;
    this.w = w;
    this.pass = pass;
    this.kept = kept;
    this.#groups = [ATTENTION_INPUTS, MLP_INPUTS].flatMap((sharing) => {
      const [first, ...others] = sharing.filter((role) => w.linears[role].adapter);
      const shared = sharedInput(sharing.map((role) => w.linears[role]));
      return first && shared ? [{ roles: [first, ...others] as const, shared }] : [];
    });
  }

  /** Does something for each chunk in turn; calls that it adds are the chunk's. */
  chunks(each: (c: Chunk) => void): void {
    for (const c of this.ctx.chunks) {
      const before = this.calls.length;
      each(c);
      this.calls.push(...inChunk(c, this.calls.splice(before)));
    }
  }

  get label(): string {
    return `layers.${this.w.layer}`;
  }

  /** Inputs of products and attention may be rounded to f16 where only gradients come of it. */
  get rounds(): boolean {
    return this.ctx.storage.halfProducts && this.pass === "again";
  }

  /** The loss would see what forward rounds. */
  get splits(): "split" | false {
    return this.ctx.storage.halfProducts && this.pass === "forward" && "split";
  }

  /** An activation of the whole stream. */
  whole(name: Activation, width: number, dtype: DType = "f32"): Tensor {
    const again = this.pass === "again" && !this.kept(name) ? " again" : "";
    return tensor(`${this.label}.${name}${again}`, [this.ctx.capacity, width], dtype);
  }

  /** An activation's rows of a chunk: a part of the whole stream's where that exists. */
  rows(name: Activation, width: number, c: Chunk, dtype: DType = "f32"): Tensor {
    if (this.kept(name) || isWhole(name, this.pass)) return chunkRows(this.whole(name, width, dtype), c);
    return this.work(name, width, c);
  }

  /** f32 rows that only this chunk needs, in this pass. */
  work(name: string, width: number, c: Chunk): Tensor {
    return tensor(`${this.label}[${c.first}].${name} ${this.pass}`, [c.rows, width]);
  }

  /** Whether forward keeps an activation in 16 bits and works on f32 rows of its own. */
  #isPacked(name: Activation): boolean {
    return this.kept(name) && this.ctx.storage.kept !== "f32";
  }

  /** f32 rows of a chunk of an activation that may be kept packed. */
  unpacked(name: Activation, width: number, c: Chunk): Tensor {
    return this.#isPacked(name) ? this.work(`${name} f32`, width, c) : this.rows(name, width, c);
  }

  /** The rows as they are kept; where they are not, as `unpacked` has them. */
  stored(name: Activation, width: number, c: Chunk): Tensor {
    return this.#isPacked(name)
      ? this.rows(name, width, c, this.ctx.storage.kept)
      : this.rows(name, width, c);
  }

  /** Keeps what forward has made. */
  pack(name: Activation, width: number, c: Chunk): void {
    if (!this.#isPacked(name)) return;
    const t = { x: this.unpacked(name, width, c), y: this.stored(name, width, c) };
    this.calls.push(callConvertRows(`${this.label} ${name} stored`, t, { N: c.N, width }));
  }

  /** Makes f32 rows of what forward kept. */
  unpack(name: Activation, width: number, c: Chunk): void {
    if (!this.#isPacked(name)) return;
    const t = { x: this.stored(name, width, c), y: this.unpacked(name, width, c) };
    this.calls.push(callConvertRows(`${this.label} ${name} again`, t, { N: c.N, width }));
  }

  /** Whether this pass makes an activation; else it was kept from forward. */
  makes(name: Activation): boolean {
    return this.pass === "forward" || !this.kept(name);
  }

  /** Adds calls that make an activation, unless it was kept from forward. */
  make(name: Activation, ...calls: readonly Call[]): void {
    if (this.makes(name)) this.calls.push(...calls);
  }

  /** The modules that share their input with this one, where they can be taken as one. */
  group(role: Role): RoleGroup | undefined {
    return this.#groups.find(({ roles }) => roles.includes(role));
  }

  p(role: Role, c: Chunk): Tensor | undefined {
    const group = this.group(role);
    if (group) {
      const { p, first } = this.#groupP(group, c);
      return memberRows(p, group.shared, this.w.linears[role].path, { first, count: c.rows });
    }
    const rank = this.w.linears[role].adapter?.rank;
    return rank === undefined ? undefined : this.rows(`${role}.p`, rank, c);
  }

  /** p of a group, and its row at which the chunk starts. */
  #groupP({ roles, shared }: RoleGroup, c: Chunk): { readonly p: SharedRows; readonly first: number } {
    const [role] = roles;
    const name: Activation = `${role}.p`;
    const base = roles.join(", ");
    if (!this.kept(name) && !isWhole(name, this.pass))
      return { p: sharedRows(`${this.label}[${c.first}].${base}.p ${this.pass}`, c.rows, shared), first: 0 };
    const again = this.pass === "again" && !this.kept(name) ? " again" : "";
    return { p: sharedRows(`${this.label}.${base}.p${again}`, this.ctx.capacity, shared), first: c.first };
  }

  /** p of a module: that of a group is made with its first one's. */
  lowrank(role: Role, x: Tensor, c: Chunk): void {
    const group = this.group(role);
    if (!group) {
      this.make(`${role}.p`, ...lowrankCalls(this.w.linears[role], x, this.p(role, c), c.N));
    } else if (group.roles[0] === role) {
      const { p, first } = this.#groupP(group, c);
      this.make(`${role}.p`, sharedDownCall(group.shared, x, p, { N: c.N, first }));
    }
  }

  /**
   * Where backward of grouped modules has e B: rows for each of them, and the call that makes the gradients of A when all
   * are there. Nothing for modules that are none.
   */
  gradients(sharing: readonly Role[], x: Tensor, c: Chunk): GroupGradients {
    const group = this.#groups.find(({ roles }) => sharing.includes(roles[0]));
    if (!group) return { rows: () => undefined, calls: [] };
    const { roles, shared } = group;
    const q = sharedRows(`${this.label}[${c.first}].${roles.join(", ")}.q`, c.rows, shared);
    return {
      rows: (member) =>
        roles.includes(member)
          ? memberRows(q, shared, this.w.linears[member].path, { first: 0, count: c.rows })
          : undefined,
      calls: [sharedGradientCall(shared, x, q, c.N)],
    };
  }

  /** y = the module's output (+ residual). */
  product(role: Role, x: Tensor, y: Tensor, c: Chunk, residual?: Tensor): Call {
    const t = { x, p: this.p(role, c), y, ...(residual && { residual }) };
    return productCall(this.w.linears[role], t, { N: c.N, half: this.rounds || this.splits });
  }

  linear(role: Role, name: Activation, x: Tensor, y: Tensor, c: Chunk, residual?: Tensor): void {
    this.lowrank(role, x, c);
    this.make(name, this.product(role, x, y, c, residual));
  }

  /** RoPE over the heads of the rows of a chunk, in place; -1 turns back. */
  rope(what: string, q: Tensor, k: Tensor, c: Chunk, direction: 1 | -1): Call {
    const sizes = { ...this.heads, N: c.N, direction };
    return callRope(`${this.label} rope ${what}`, { q, k, ...this.turning(c) }, sizes);
  }

  /** By how much each token of a chunk is turned. */
  turning(c: Chunk): { readonly table: Tensor; readonly positions: Tensor } {
    return { table: this.ctx.ropeTable, positions: chunkRows(this.ctx.positions, c) };
  }

  get heads(): { readonly heads: number; readonly kvHeads: number; readonly headDim: number } {
    const { heads, kvHeads, headDim } = this.ctx.arch;
    return { heads, kvHeads, headDim };
  }
}

export const isDora = (l: Linear): boolean => l.adapter?.parameters.magnitude !== undefined;

/** Row norms of the whole layer, before its first use after an update. */
export const layerRowNorms = (w: LayerTensors): readonly Call[] =>
  rowNormCalls(Object.values(w.linears), `layers.${w.layer} row norms`);

/** [D, F, heads * headDim, kvHeads * headDim] */
export function widths(ctx: StreamContext): readonly [number, number, number, number] {
  const { arch } = ctx;
  return [arch.hidden, arch.feedForward, arch.heads * arch.headDim, arch.kvHeads * arch.headDim];
}

export function attentionSizes(ctx: StreamContext, w: LayerTensors) {
  const { arch } = ctx;
  return {
    heads: arch.heads,
    kvHeads: arch.kvHeads,
    headDim: arch.headDim,
    scale: 1 / Math.sqrt(arch.headDim),
    window: w.window,
    half: ctx.storage.halfProducts,
  };
}
