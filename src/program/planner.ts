/**
 * Programs -> memory. Persistent tensors get buffers of their own (or a place in a shared one); transient tensors get
 * slots, reused when lifetimes do not overlap. The executor allocates exactly this list, so the plan is the allocation.
 */
import type { Call, Program } from "./kernel.js";
import { assignSlots, type Lifetime } from "./slots.js";
import { isTransient, OFFSET_ALIGN_BYTES, tensorBytes, type Kind, type Tensor } from "./tensor.js";
import { DOWNLOAD_LABELS, DOWNLOAD_PIECE_BYTES } from "./transfer.js";

export interface PlannedBuffer {
  readonly label: string;
  readonly kind: Kind;
  readonly bytes: number;
}

export interface Place {
  /** Index into `buffers`. */
  readonly buffer: number;
  readonly offsetBytes: number;
  readonly bytes: number;
}

export interface MemoryPlan {
  readonly buffers: readonly PlannedBuffer[];
  /** Places of persistent tensors by name. */
  readonly places: ReadonlyMap<string, Place>;
  /** Places of transient tensors by program and name: programs never run at the same time, so each has the slots to itself. */
  readonly transientPlaces: ReadonlyMap<string, ReadonlyMap<string, Place>>;
  /** Which place of 256 bytes in the uniform buffer each call of a program has; calls of the same sizes share one. */
  readonly uniforms: ReadonlyMap<string, readonly number[]>;
  readonly bytesByKind: ReadonlyMap<Kind, number>;
  readonly totalBytes: number;
  /** The largest range that one binding covers: what the adapter's binding limit is compared with. */
  readonly largestBinding: { readonly name: string; readonly bytes: number };
}

/** Bytes of a place in the uniform buffer: the portable alignment of uniform offsets. */
export const UNIFORM_STRIDE = 256;
export const UNIFORM_LABEL = "uniforms";
/** The one staging buffer through which scalars are read back while training. */
export const READBACK_LABEL = "read back";

/**
 * Plans the memory for programs that never run at the same time.
 * @param programs each at full capacity (the largest token count it will ever run with)
 * @param readbackBytes size of the read-back staging buffer
 * @param extra persistent tensors that no call binds but the host reads or writes
 */
export function planMemory(
  programs: readonly Program[],
  readbackBytes: number,
  extra: readonly Tensor[] = [],
): MemoryPlan {
  const persistent = new Map<string, Tensor>();
  const lifetimes = new Map<string, Map<string, Lifetime>>();
  const uniforms = planUniforms(programs);
  for (const t of extra) note(t, persistent);
  let at = 0;
  for (const program of programs) {
    const own = new Map<string, Lifetime>();
    lifetimes.set(program.name, own);
    for (const call of program.calls) {
      noteCall(call, at++, persistent, own);
    }
  }
  const buffers: PlannedBuffer[] = [];
  const places = new Map<string, Place>();
  placePersistent(persistent, buffers, places);
  const transientPlaces = placeTransient(lifetimes, buffers);
  if (at > 0) buffers.push({ label: UNIFORM_LABEL, kind: "uniform", bytes: uniforms.count * UNIFORM_STRIDE });
  if (readbackBytes > 0) buffers.push({ label: READBACK_LABEL, kind: "staging", bytes: readbackBytes });
  const piece = downloadPieceBytes(programs);
  if (piece > 0) for (const label of DOWNLOAD_LABELS) buffers.push({ label, kind: "staging", bytes: piece });
  return {
    buffers,
    places,
    transientPlaces,
    uniforms: uniforms.places,
    ...totals(buffers),
    largestBinding: largestBinding(programs),
  };
}

/**
 * Layers repeat each other: calls of one kernel, one chunk and the same sizes at full capacity have the same sizes for
 * every token count, whatever they are specialised for, and those of row norms never change. Others may agree at full capacity alone. The executor checks
 * it when it writes them.
 */
function planUniforms(programs: readonly Program[]): {
  readonly places: ReadonlyMap<string, readonly number[]>;
  readonly count: number;
} {
  const places = new Map<string, readonly number[]>();
  let count = 0;
  for (const { name, calls } of programs) {
    const known = new Map<string, Map<string | undefined, UniformPlace[]>>();
    const own = calls.map((call) => {
      const { kernel, chunk, onlyAfterUpdate, sizes } = call;
      if (chunk === undefined && !onlyAfterUpdate) return count++;
      let byChunk = known.get(kernel.name);
      if (!byChunk) known.set(kernel.name, (byChunk = new Map<string | undefined, UniformPlace[]>()));
      let alike = byChunk.get(chunk);
      if (!alike) byChunk.set(chunk, (alike = []));
      let found = alike.find((one) => areSame(one.sizes, sizes));
      if (!found) alike.push((found = { sizes, place: count++ }));
      return found.place;
    });
    places.set(name, own);
  }
  return { places, count };
}

interface UniformPlace {
  readonly sizes: Call["sizes"];
  readonly place: number;
}

/** The same numbers under the same names in the same order. */
function areSame(a: Call["sizes"], b: Call["sizes"]): boolean {
  if (a === b) return true;
  const [names, others] = [Object.keys(a), Object.keys(b)];
  return (
    names.length === others.length && names.every((name, i) => name === others[i] && a[name] === b[name])
  );
}

function note(t: Tensor, known: Map<string, Tensor>): void {
  const other = known.get(t.name);
  if (other === t) return;
  const isSame =
    !other ||
    (tensorBytes(other) === tensorBytes(t) &&
      other.arena?.name === t.arena?.name &&
      other.arena?.offsetBytes === t.arena?.offsetBytes);
  if (!isSame) {
    throw new Error(
      `two different tensors are called ${t.name}: [${other.shape.join()}] and [${t.shape.join()}]`,
    );
  }
  known.set(t.name, t);
}

function noteCall(
  call: Call,
  at: number,
  persistent: Map<string, Tensor>,
  lifetimes: Map<string, Lifetime>,
): void {
  const entries = Object.entries(call.tensors);
  checkAccess(call, entries);
  for (const [binding, bound] of entries) {
    const t = bound.view?.base ?? bound;
    if (!isTransient(t)) {
      note(t, persistent);
      continue;
    }
    const life = lifetimes.get(t.name);
    if (life) {
      if (life.bytes !== tensorBytes(t))
        throw new Error(`workspace tensor ${t.name} has two sizes (${call.label})`);
      life.last = at;
    } else {
      if (call.kernel.bindings[binding] !== "write") {
        throw new Error(`${call.label}: ${t.name} is used before anything wrote it`);
      }
      lifetimes.set(t.name, { kind: t.kind, bytes: tensorBytes(t), first: at, last: at, apart: new Set() });
    }
  }
  keepApart(call, entries, lifetimes);
}

/** The tensors of a call by binding. */
type Entries = readonly (readonly [binding: string, t: Tensor])[];

/** What a staging buffer for downloads holds: the longest of them, or a piece; 0 where there is none. */
function downloadPieceBytes(programs: readonly Program[]): number {
  let largest = 0;
  for (const { kernel, tensors } of programs.flatMap((p) => p.calls)) {
    if (kernel.transfer === "download")
      largest = Math.max(largest, ...Object.values(tensors).map(tensorBytes));
  }
  return Math.min(largest, DOWNLOAD_PIECE_BYTES);
}

/** Notes the tensors that this call reads and those that it writes: they may not lie in one buffer. */
function keepApart(call: Call, entries: Entries, lifetimes: ReadonlyMap<string, Lifetime>): void {
  const [read, written]: Lifetime[][] = [[], []];
  for (const [binding, bound] of entries) {
    const life = lifetimes.get((bound.view?.base ?? bound).name);
    if (life) (call.kernel.bindings[binding] === "read" ? read : written)?.push(life);
  }
  for (const one of read ?? []) {
    for (const other of written ?? []) {
      one.apart.add(other);
      other.apart.add(one);
    }
  }
}

/** A dispatch may not bind one buffer as read and as written, even at disjoint ranges. */
function checkAccess(call: Call, entries: Entries): void {
  const written = new Map<string, boolean>();
  for (const [binding, t] of entries) {
    const access = call.kernel.bindings[binding];
    if (!access) throw new Error(`${call.kernel.name} (${call.label}) has no binding ${binding}`);
    const { name, arena } = t.view?.base ?? t;
    const memory = arena?.name ?? name;
    const isWritten = access !== "read";
    if (written.get(memory) === !isWritten)
      throw new Error(`${call.label}: ${memory} is bound as read and as written`);
    written.set(memory, isWritten);
  }
}

function placePersistent(
  tensors: ReadonlyMap<string, Tensor>,
  buffers: PlannedBuffer[],
  places: Map<string, Place>,
): void {
  const arenas = new Map<string, number>();
  for (const t of tensors.values()) {
    const bytes = tensorBytes(t);
    if (!t.arena) {
      places.set(t.name, { buffer: buffers.length, offsetBytes: 0, bytes });
      buffers.push({ label: t.name, kind: t.kind, bytes });
      continue;
    }
    let index = arenas.get(t.arena.name);
    if (index === undefined) {
      index = buffers.length;
      arenas.set(t.arena.name, index);
      buffers.push({ label: t.arena.name, kind: t.kind, bytes: t.arena.bytes });
    }
    if (t.arena.offsetBytes % OFFSET_ALIGN_BYTES !== 0 || t.arena.offsetBytes + bytes > t.arena.bytes) {
      throw new Error(`${t.name} does not fit its place in ${t.arena.name}`);
    }
    places.set(t.name, { buffer: index, offsetBytes: t.arena.offsetBytes, bytes });
  }
}

/** Transient tensors get places in slots that all programs share. */
function placeTransient(
  lifetimes: ReadonlyMap<string, ReadonlyMap<string, Lifetime>>,
  buffers: PlannedBuffer[],
): ReadonlyMap<string, ReadonlyMap<string, Place>> {
  const slots = assignSlots([...lifetimes.values()].flatMap((own) => [...own.values()]));
  const firstBuffer = buffers.length;
  for (const [i, { kind, bytes }] of slots.buffers.entries())
    buffers.push({ label: `slot ${i}`, kind, bytes });
  const place = (life: Lifetime): Place => {
    const { slot = 0, offsetBytes = 0 } = slots.places.get(life) ?? {};
    return { buffer: firstBuffer + slot, offsetBytes, bytes: life.bytes };
  };
  return new Map(
    [...lifetimes].map(([program, own]) => [
      program,
      new Map([...own].map(([name, life]) => [name, place(life)])),
    ]),
  );
}

function totals(buffers: readonly PlannedBuffer[]): { bytesByKind: Map<Kind, number>; totalBytes: number } {
  const bytesByKind = new Map<Kind, number>();
  let totalBytes = 0;
  for (const b of buffers) {
    bytesByKind.set(b.kind, (bytesByKind.get(b.kind) ?? 0) + b.bytes);
    totalBytes += b.bytes;
  }
  return { bytesByKind, totalBytes };
}

/** Where a tensor lies in a plan; a view lies inside its base. `program` names the one whose transient tensors are meant. */
export function placeOf(plan: MemoryPlan, t: Tensor, program?: string): Place {
  const { name } = t.view?.base ?? t;
  const own = program === undefined ? undefined : plan.transientPlaces.get(program);
  const place = own?.get(name) ?? plan.places.get(name) ?? memberPlace(plan, t);
  if (!place) throw new Error(`tensor ${t.name} was not planned`);
  if (!t.view) return place;
  return {
    buffer: place.buffer,
    offsetBytes: place.offsetBytes + t.view.offsetBytes,
    bytes: tensorBytes(t),
  };
}

/** A part of an arena that no call binds by itself. */
function memberPlace({ buffers }: MemoryPlan, t: Tensor): Place | undefined {
  const { arena } = t;
  const buffer = arena ? buffers.findIndex(({ label }) => label === arena.name) : -1;
  return arena && buffer >= 0 ? { buffer, offsetBytes: arena.offsetBytes, bytes: tensorBytes(t) } : undefined;
}

/** Views count as what they are, and transfers bind nothing. */
function largestBinding(programs: readonly Program[]): { name: string; bytes: number } {
  let largest = { name: "", bytes: 0 };
  for (const { kernel, tensors } of programs.flatMap((p) => p.calls)) {
    if (kernel.transfer) continue;
    for (const t of Object.values(tensors)) {
      const bytes = tensorBytes(t);
      if (bytes > largest.bytes) largest = { name: t.name, bytes };
    }
  }
  return largest;
}
