/** Every GPU buffer is made here, so that label, class and bytes are known at every moment, and the peak afterwards. */
import { QdoraError } from "../formats/error.js";

export interface LedgerEntry {
  readonly label: string;
  readonly kind: string;
  readonly bytes: number;
}

export class Ledger {
  readonly #device: GPUDevice;
  readonly #live = new Map<GPUBuffer, LedgerEntry>();
  readonly #kinds = new Map<string, number>();
  #bytes = 0;
  #peakBytes = 0;
  #peakByKind: ReadonlyMap<string, number> = new Map();
  #budget: number | undefined;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /**
   * Creates a buffer and books it.
   * @throws QdoraError when the buffer exceeds what the adapter allows; out-of-memory arrives through the error scope of the caller.
   */
  allocate(label: string, kind: string, bytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const limit = this.#device.limits.maxBufferSize;
    if (bytes > limit) {
      throw new QdoraError(
        "gpu memory",
        `buffer ${label} needs ${bytes} bytes (limit of this adapter ${limit})`,
        "a smaller max_seq_length or batch_size makes the workspace smaller",
      );
    }
    if (this.#budget !== undefined && this.#bytes + bytes > this.#budget)
      throw new Error(
        `buffer ${label} of ${bytes} bytes was not planned (${this.#bytes} of ${this.#budget} are taken)`,
      );
    const buffer = this.#device.createBuffer({ label, size: bytes, usage });
    this.#live.set(buffer, { label, kind, bytes });
    this.#bytes += bytes;
    this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + bytes);
    if (this.#bytes > this.#peakBytes) {
      this.#peakBytes = this.#bytes;
      this.#peakByKind = new Map(this.#kinds);
    }
    return buffer;
  }

  /** From now on more than this many bytes are a mistake; undefined lifts the limit. */
  set budget(bytes: number | undefined) {
    this.#budget = bytes;
  }

  get budget(): number | undefined {
    return this.#budget;
  }

  /** Destroys a buffer of this ledger. The memory comes back after a later submit has completed. */
  release(buffer: GPUBuffer): void {
    const entry = this.#live.get(buffer);
    if (!entry) throw new Error("the ledger does not know this buffer");
    this.#live.delete(buffer);
    this.#bytes -= entry.bytes;
    this.#kinds.set(entry.kind, (this.#kinds.get(entry.kind) ?? 0) - entry.bytes);
    buffer.destroy();
  }

  get bytes(): number {
    return this.#bytes;
  }

  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Bytes by class at the moment of the peak. */
  get peakByKind(): ReadonlyMap<string, number> {
    return this.#peakByKind;
  }

  /** The live buffers, largest first. */
  entries(): readonly LedgerEntry[] {
    return [...this.#live.values()].toSorted((a, b) => b.bytes - a.bytes);
  }
}
