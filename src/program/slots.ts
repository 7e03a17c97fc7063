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

/** A tensor on its way into a slot. Numbers of its lifetime stand here too, where they are read most. */
interface Item {
  readonly life: Lifetime;
  readonly first: number;
  readonly last: number;
  readonly bytes: number;
  /** Those that may not share its slot. */
  apart: readonly Item[];
  slot: number;
  offsetBytes: number;
  /** End of its place, aligned. */
  end: number;
  /** The last search that met it. */
  met: number;
}

interface Slot {
  readonly kind: Kind;
  bytes: number;
  readonly members: Item[];
  /** Members by stretch of time. */
  readonly stretches: Item[][];
}

/** Calls of a stretch of time: members are found by it. */
const STRETCH_CALLS = 64;
/** A slot grows no further: every adapter has buffers of this size. */
const LARGEST_SLOT_BYTES = 1 << 28;
/** Up to so many, insertion sorts fastest. */
const FEW = 24;

const aligned = (bytes: number): number => Math.ceil(bytes / OFFSET_ALIGN_BYTES) * OFFSET_ALIGN_BYTES;
const stretchOf = (call: number): number => Math.floor(call / STRETCH_CALLS);

function itemsOf(lifetimes: readonly Lifetime[]): readonly Item[] {
  const items = new Map<Lifetime, Item>();
  for (const life of lifetimes) {
    const { first, last, bytes } = life;
    items.set(life, { life, first, last, bytes, apart: [], slot: -1, offsetBytes: 0, end: 0, met: 0 });
  }
  for (const item of items.values()) item.apart = [...item.life.apart].flatMap((l) => items.get(l) ?? []);
  return [...items.values()];
}

const livesBeside = (a: Item, b: Item): boolean => a.first <= b.last && b.first <= a.last;

function byOffset(members: Item[]): void {
  if (members.length > FEW) {
    members.sort((a, b) => a.offsetBytes - b.offsetBytes);
    return;
  }
  for (let i = 1; i < members.length; i++) {
    const one = members[i] as Item;
    let at = i;
    for (; at > 0; at--) {
      const before = members[at - 1] as Item;
      if (before.offsetBytes <= one.offsetBytes) break;
      members[at] = before;
    }
    members[at] = one;
  }
}

/** Finds members that live at the same time as a tensor, and where they leave room. Nothing is allocated per search. */
class Searcher {
  readonly #found: Item[] = [];
  #search = 0;

  /** The lowest offset of a slot that is free over the tensor's whole lifetime. */
  freeOffset({ members, stretches }: Slot, item: Item): number {
    const found = this.#found;
    found.length = 0;
    const [from, to] = [stretchOf(item.first), stretchOf(item.last)];
    this.#search += 1;
    // Long lives meet most members, and in every stretch again.
    if (to - from >= members.length) this.#collect(members, item);
    else
      for (let at = from; at <= to; at++) {
        const stretch = stretches[at];
        if (stretch) this.#collect(stretch, item);
      }
    byOffset(found);
    let offset = 0;
    for (const member of found) {
      if (offset + item.bytes <= member.offsetBytes) break;
      if (member.end > offset) offset = member.end;
    }
    return offset;
  }

  #collect(members: readonly Item[], item: Item): void {
    for (const member of members) {
      if (member.met === this.#search || !livesBeside(member, item)) continue;
      member.met = this.#search;
      this.#found.push(member);
    }
  }
}

const calls = (l: Lifetime): number => l.last - l.first + 1;

/** Bytes times calls ^ 3/4, by roots: they are the same everywhere. */
function byBoth(l: Lifetime): number {
  const root = Math.sqrt(calls(l));
  return l.bytes * root * Math.sqrt(root);
}

/**
 * Orders that fill slots well, each for other models: the largest first (of the same size the first one or the shortest-lived), the
 * longest-lived first, by both.
 */
const ORDERS: readonly ((a: Lifetime, b: Lifetime) => number)[] = [
  (a, b) => b.bytes - a.bytes || a.first - b.first,
  (a, b) => calls(b) - calls(a) || b.bytes - a.bytes || a.first - b.first,
  (a, b) => b.bytes * calls(b) - a.bytes * calls(a) || a.first - b.first,
  (a, b) => byBoth(b) - byBoth(a) || a.first - b.first,
  (a, b) => b.bytes - a.bytes || calls(a) - calls(b) || a.first - b.first,
];

const slotBytes = (s: Slots | readonly Slot[]): number =>
  ("buffers" in s ? s.buffers : s).reduce((sum, b) => sum + b.bytes, 0);

/** The smallest of a few greedy assignments: each order, where nothing is free with a slot of its own or a slot that grows. Deterministic. */
export function assignSlots(lifetimes: readonly Lifetime[]): Slots {
  const least = liveBytes(lifetimes);
  const items = itemsOf(lifetimes);
  let best: Slots | undefined;
  for (const order of ORDERS) {
    const ordered = items.toSorted((a, b) => order(a.life, b.life));
    for (const grows of [false, true]) {
      const slots = assignInOrder(ordered, grows);
      if (!best || slotBytes(slots) < slotBytes(best)) best = keep(slots, items);
      if (slotBytes(best) <= least) return best;
    }
  }
  return best ?? { buffers: [], places: new Map() };
}

/** The assignment as it is now, before items go elsewhere. */
const keep = (slots: readonly Slot[], items: readonly Item[]): Slots => ({
  buffers: slots.map(({ kind, bytes }) => ({ kind, bytes })),
  places: new Map(items.map(({ life, slot, offsetBytes }) => [life, { slot, offsetBytes }])),
});

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
function assignInOrder(items: readonly Item[], grows: boolean): readonly Slot[] {
  const slots: Slot[] = [];
  const searcher = new Searcher();
  for (const item of items) {
    item.slot = -1;
    item.met = 0;
  }
  for (const item of items) {
    let [best, bestOffset, leastGrowth] = [slots.length, 0, item.bytes];
    for (const [i, slot] of slots.entries()) {
      if (item.apart.some((other) => other.slot === i && livesBeside(other, item))) continue;
      const offsetBytes = searcher.freeOffset(slot, item);
      const growth = Math.max(0, offsetBytes + item.bytes - slot.bytes);
      const isBetter = growth < leastGrowth || (grows && growth === leastGrowth && best === slots.length);
      if (isBetter && (growth === 0 || slot.bytes + growth <= LARGEST_SLOT_BYTES))
        [best, bestOffset, leastGrowth] = [i, offsetBytes, growth];
      if (leastGrowth === 0) break;
    }
    const slot = (slots[best] ??= { kind: item.life.kind, bytes: 0, members: [], stretches: [] });
    slot.bytes += leastGrowth;
    item.slot = best;
    item.offsetBytes = bestOffset;
    item.end = bestOffset + aligned(item.bytes);
    slot.members.push(item);
    for (let at = stretchOf(item.first); at <= stretchOf(item.last); at++)
      (slot.stretches[at] ??= []).push(item);
  }
  return slots;
}
