/** Rotary position embedding (Su et al. 2021) in Hugging Face's layout. Its inverse is its gradient. */
import { bound, size, type Call, type Kernel, type NumberArray, type TwinMemory } from "../program/kernel.js";
import { elementCount, type Tensor } from "../program/tensor.js";
import { elementVariants } from "./elements.js";

interface Heads {
  readonly N: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

const pairs = (call: Call): number =>
  (size(call, "N") * (size(call, "heads") + size(call, "kvHeads")) * size(call, "headDim")) / 2;

/** to = from, turned. */
function turn(
  memory: TwinMemory,
  call: Call,
  heads: number,
  direction: number,
  [from, to]: readonly [NumberArray, NumberArray],
): void {
  const [positions, table] = [bound(memory, "positions"), bound(memory, "table")];
  const half = size(call, "headDim") / 2;
  for (let head = 0; head < size(call, "N") * heads; head++) {
    for (let i = 0; i < half; i++) {
      const at = 2 * (positions[Math.floor(head / heads)]! * half + i);
      const [cos, sin] = [table[at]!, table[at + 1]! * direction];
      const [a, b] = [head * 2 * half + i, head * 2 * half + half + i];
      const [x1, x2] = [from[a]!, from[b]!];
      to[a] = x1 * cos - x2 * sin;
      to[b] = x2 * cos + x1 * sin;
    }
  }
}

export const rope: Kernel = {
  name: "rope",
  bindings: { positions: "read", table: "read", q: "update", k: "update" },
  variants: elementVariants("rope.wgsl", pairs),
  twin(memory, call) {
    const [q, k] = [bound(memory, "q"), bound(memory, "k")];
    const direction = size(call, "direction");
    turn(memory, call, size(call, "heads"), direction, [q, q]);
    turn(memory, call, size(call, "kvHeads"), direction, [k, k]);
  },
  cost: (call) => ({ flops: 6 * pairs(call), bytes: 16 * pairs(call) }),
};

/** Lanes of `attention_store`: eight values each. */
const eights = (call: Call): number =>
  (size(call, "N") * (size(call, "heads") + 2 * size(call, "kvHeads")) * size(call, "headDim")) / 8;

export const attentionStore: Kernel = {
  name: "attention_store",
  bindings: {
    positions: "read",
    table: "read",
    q: "read",
    k: "read",
    v: "read",
    q_stored: "write",
    k_stored: "write",
    v_stored: "write",
  },
  variants: elementVariants("attention_store.wgsl", eights),
  twin(memory, call) {
    for (const [name, heads] of [["q", size(call, "heads")] as const, ["k", size(call, "kvHeads")] as const])
      turn(memory, call, heads, 1, [bound(memory, name), bound(memory, `${name}_stored`)]);
    const count = size(call, "N") * size(call, "kvHeads") * size(call, "headDim");
    bound(memory, "v_stored").set(bound(memory, "v").subarray(0, count));
  },
  cost: (call) => ({ flops: 24 * eights(call), bytes: 48 * eights(call) }),
};

interface Turning {
  /** f32 [positions, headDim / 2, 2] cos, sin */
  readonly table: Tensor;
  /** u32 [N] */
  readonly positions: Tensor;
}

/**
 * Turns queries and keys in place.
 * @param t.q f32 [N, heads * headDim]
 * @param t.k f32 [N, kvHeads * headDim]
 * @param s.direction 1 turns, -1 turns back (the gradient)
 */
export function callRope(
  label: string,
  t: Turning & { readonly q: Tensor; readonly k: Tensor },
  s: Heads & { readonly direction: 1 | -1 },
): Call {
  return { kernel: rope, label, tensors: { ...t }, sizes: { ...s }, options: {} };
}

/**
 * Queries and keys turned, values as they are, packed.
 * @param t.q f32 [N, heads * headDim]; t.k and t.v f32 [N, kvHeads * headDim]
 * @param t.q_stored, t.k_stored, t.v_stored bfp16 of the same shapes, overwritten
 * @param s.headDim a multiple of 8: a block is turned with another
 */
export function callAttentionStore(
  label: string,
  t: Turning & Readonly<Record<"q" | "k" | "v" | "q_stored" | "k_stored" | "v_stored", Tensor>>,
  s: Heads,
): Call {
  const { N, heads, kvHeads, headDim } = s;
  const fits =
    headDim % 8 === 0 &&
    [t.q_stored, t.k_stored, t.v_stored].every(({ dtype }) => dtype === "bfp16") &&
    elementCount(t.q_stored) >= N * heads * headDim &&
    [t.k_stored, t.v_stored].every((x) => elementCount(x) >= N * kvHeads * headDim);
  if (!fits) throw new Error(`${label}: cannot store ${N} tokens of heads of ${headDim}`);
  return { kernel: attentionStore, label, tensors: { ...t }, sizes: { ...s }, options: {} };
}
