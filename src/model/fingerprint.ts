/**
 * What the weights of a model were, told from the bytes that loading reads anyway: no pass of its own. It depends on names, types, shapes and
 * bytes of the tensors that were read; not on file names, sharding or the order of loading.
 */
import { createHash, type Hash } from "node:crypto";
import { openCheckpoint, type Checkpoint } from "../formats/checkpoint.js";
import { ReadAhead } from "../formats/read_ahead.js";
import type { TensorEntry } from "../formats/safetensors.js";

const PIECE_BYTES = 8 << 20;

interface Seen {
  readonly entry: TensorEntry;
  readonly hash: Hash;
  /** Bytes hashed so far, from the tensor's start. */
  next: number;
}

export class ModelFingerprint {
  readonly #seen = new Map<string, Seen>();

  /** The same checkpoint, whose reads are noted. */
  watch(checkpoint: Checkpoint): Checkpoint {
    return {
      ...checkpoint,
      read: async (entry, firstByte = 0, byteCount = entry.byteLength - firstByte, out?: Uint8Array) => {
        const bytes = await checkpoint.read(entry, firstByte, byteCount, out);
        this.#note(entry, firstByte, bytes);
        return bytes;
      },
    };
  }

  /** Notes a tensor that loading left on the disk; one that was read is known. */
  async readTensor(folder: string, name: string): Promise<void> {
    const checkpoint = this.watch(await openCheckpoint(folder));
    try {
      const entry = checkpoint.tensors.get(name);
      if (!entry || this.#seen.get(name)?.next === entry.byteLength) return;
      const pieces = new ReadAhead(checkpoint).pieces(entry, 0, entry.byteLength, PIECE_BYTES);
      // Reading them is all.
      while (!(await pieces.next()).done);
    } finally {
      await checkpoint.close();
    }
  }

  /** Pieces count once, in the order of the tensor; what is read a second time is known already. */
  #note(entry: TensorEntry, firstByte: number, bytes: Uint8Array): void {
    let seen = this.#seen.get(entry.name);
    if (!seen) {
      seen = { entry, hash: createHash("sha256"), next: 0 };
      this.#seen.set(entry.name, seen);
    }
    if (firstByte > seen.next || firstByte + bytes.byteLength <= seen.next) return;
    seen.hash.update(bytes.subarray(seen.next - firstByte));
    seen.next = firstByte + bytes.byteLength;
  }

  /** sha256 in hex over all tensors read so far, by name. */
  digest(): string {
    return this.#digestOf([...this.#seen.keys()]);
  }

  /** Types and sha256 of the weights of norms among them, which quantising leaves as they are; undefined if there are none. */
  norms(): string | undefined {
    const norms = [...this.#seen.values()].filter(({ entry }) => entry.name.endsWith("norm.weight"));
    if (norms.length === 0) return undefined;
    const types = [...new Set(norms.map(({ entry }) => entry.dtype))].toSorted();
    return `${types.join("+")} ${this.#digestOf(norms.map(({ entry }) => entry.name))}`;
  }

  #digestOf(names: readonly string[]): string {
    const all = createHash("sha256");
    for (const name of names.toSorted()) {
      const seen = this.#seen.get(name);
      if (!seen) continue;
      const { dtype, shape } = seen.entry;
      all.update(JSON.stringify([name, dtype, shape, seen.next, seen.hash.copy().digest("hex")]));
    }
    return all.digest("hex");
  }
}
