/**
 * Workspace memory: tensors by lifetime -> places in a few buffers. Two tensors that live at the same time may lie in one
 * buffer, side by side, unless some call reads one and writes the other: WebGPU looks at whole buffers there.
 */
import { OFFSET_ALIGN_BYTES, type Kind } from "./tensor.js";

export interface Lifetime {
  readonly kind: Kind;
  readonly bytes: number;
  /** First and last use, in calls counted over all programs. */
  first: number;
  last: number;
  /** Tensors that some call binds with the other access. */
  readonly apart: Set<Lifetime>;
}

export interface SlotPlace {
  readonly slot: number;
  readonly offsetBytes: number;
}

export interface Slots {
  readonly buffers: readonly { readonly kind: Kind; readonly bytes: number }[];
  readonly places: ReadonlyMap<Lifetime, SlotPlace>;
}

interface Member {
  readonly life: Lifetime;
  readonly offsetBytes: number;
}

interface Slot {
  readonly kind: Kind;
  bytes: number;
  /** Members by stretch of time. */
  readonly stretches: Map<number, Member[]>;
}

/** Calls of a stretch of time: members are found by it. */
const STRETCH_CALLS = 64;
/** A slot grows no further: every adapter has buffers of this size. */
const LARGEST_SLOT_BYTES = 1 << 28;

const aligned = (bytes: number): number => Math.ceil(bytes / OFFSET_ALIGN_BYTES) * OFFSET_ALIGN_BYTES;

function* stretchesOf(life: Lifetime): Generator<number> {
  const last = Math.floor(life.last / STRETCH_CALLS);
  for (let stretch = Math.floor(life.first / STRETCH_CALLS); stretch <= last; stretch++) yield stretch;
}

/** Members that live at the same time, by offset; undefined where one of them may not share a buffer. */
function neighbours(slot: Slot, life: Lifetime): readonly Member[] | undefined {
  const found = new Set<Member>();
  for (const stretch of stretchesOf(life)) {
    for (const member of slot.stretches.get(stretch) ?? []) {
      if (member.life.last < life.first || life.last < member.life.first) continue;
      if (life.apart.has(member.life)) return undefined;
      found.add(member);
    }
  }
  return [...found].toSorted((a, b) => a.offsetBytes - b.offsetBytes);
}

/** The lowest offset that is free over the whole lifetime; undefined where the slot cannot take the tensor. */
function freeOffset(slot: Slot, life: Lifetime): number | undefined {
  const members = neighbours(slot, life);
  if (!members) return undefined;
  let offset = 0;
  for (const member of members) {
    if (offset + life.bytes <= member.offsetBytes) break;
    offset = Math.max(offset, member.offsetBytes + aligned(member.life.bytes));
  }
  return offset;
}

const calls = (l: Lifetime): number => l.last - l.first + 1;

/** Orders that fill slots well, each for other models: the largest first, the longest-lived first, by both. */
const ORDERS: readonly ((a: Lifetime, b: Lifetime) => number)[] = [
  (a, b) => b.bytes - a.bytes || a.first - b.first,
  (a, b) => calls(b) - calls(a) || b.bytes - a.bytes || a.first - b.first,
  (a, b) => b.bytes * calls(b) - a.bytes * calls(a) || a.first - b.first,
];

const slotBytes = (s: Slots): number => s.buffers.reduce((sum, b) => sum + b.bytes, 0);

/** The smallest of a few greedy assignments: each order, where nothing is free with a slot of its own or a slot that grows. Deterministic. */
export function assignSlots(lifetimes: readonly Lifetime[]): Slots {
  const least = liveBytes(lifetimes);
  let best: Slots | undefined;
  for (const order of ORDERS) {
    for (const grows of [false, true]) {
      const slots = assignInOrder(lifetimes.toSorted(order), grows);
      if (!best || slotBytes(slots) < slotBytes(best)) best = slots;
      if (slotBytes(best) <= least) return best;
    }
  }
  return best ?? { buffers: [], places: new Map() };
}

/** The most bytes that live at one time: no assignment is smaller. */
function liveBytes(lifetimes: readonly Lifetime[]): number {
  const changes = lifetimes
    .flatMap((l) => [
      { at: l.first, bytes: l.bytes },
      { at: l.last + 1, bytes: -l.bytes },
    ])
    .toSorted((a, b) => a.at - b.at || a.bytes - b.bytes);
  let [now, most] = [0, 0];
  for (const { bytes } of changes) {
    now += bytes;
    most = Math.max(most, now);
  }
  return most;
}

/** Greedy: each tensor in turn where it makes the slots grow least. `grows`: rather a slot that grows than another one. */
function assignInOrder(lifetimes: readonly Lifetime[], grows: boolean): Slots {
  const slots: Slot[] = [];
  const places = new Map<Lifetime, SlotPlace>();
  for (const life of lifetimes) {
    let best = { slot: slots.length, offsetBytes: 0, growth: life.bytes };
    for (const [i, slot] of slots.entries()) {
      const offsetBytes = freeOffset(slot, life);
      if (offsetBytes === undefined) continue;
      const growth = Math.max(0, offsetBytes + life.bytes - slot.bytes);
      const isBetter =
        growth < best.growth || (grows && growth === best.growth && best.slot === slots.length);
      if (isBetter && (growth === 0 || slot.bytes + growth <= LARGEST_SLOT_BYTES))
        best = { slot: i, offsetBytes, growth };
      if (best.growth === 0) break;
    }
    const slot = (slots[best.slot] ??= { kind: life.kind, bytes: 0, stretches: new Map() });
    slot.bytes += best.growth;
    for (const stretch of stretchesOf(life)) {
      const members = slot.stretches.get(stretch) ?? [];
      slot.stretches.set(stretch, [...members, { life, offsetBytes: best.offsetBytes }]);
    }
    places.set(life, best);
  }
  return { buffers: slots, places };
}
