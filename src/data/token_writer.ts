/** Writes a file of rows as tokens, chunk by chunk; only the tables are kept in memory. */
import { createHash } from "node:crypto";
import { open, rm, type FileHandle } from "node:fs/promises";
import { ColumnCounter } from "./column_counts.js";
import { NO_KINDS, type EncodedChunk } from "./encode_chunk.js";
import type { BrokenRow } from "./raw_row.js";
import { trailerHead, type TokenSummary } from "./token_layout.js";

const KEPT_BROKEN = 50;

type Values = Float64Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

/** A typed array that grows. */
class Column<T extends Values> {
  #values: T;
  readonly #make: (length: number) => T;
  length = 0;

  constructor(make: (length: number) => T) {
    this.#make = make;
    this.#values = make(1 << 12);
  }

  append(more: ArrayLike<number>): void {
    const needed = this.length + more.length;
    if (needed > this.#values.length) {
      const grown = this.#make(Math.max(needed, Math.ceil(this.#values.length * 1.5)));
      grown.set(this.#values.subarray(0, this.length));
      this.#values = grown;
    }
    this.#values.set(more, this.length);
    this.length = needed;
  }

  bytes(): Uint8Array {
    const { buffer, BYTES_PER_ELEMENT } = this.#values;
    return new Uint8Array(buffer, 0, this.length * BYTES_PER_ELEMENT);
  }
}

export class TokenWriter {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #width: 2 | 4;
  readonly #hash = createHash("sha256");
  readonly #ends = new Column((n) => new Float64Array(n));
  readonly #lengths = new Column((n) => new Uint32Array(n));
  readonly #scored = new Column((n) => new Uint32Array(n));
  readonly #flags = new Column((n) => new Uint8Array(n));
  readonly #kinds = { ...NO_KINDS };
  readonly #broken: BrokenRow[] = [];
  readonly #columns = new ColumnCounter();
  #brokenCount = 0;
  #recordBytes = 0;

  private constructor(path: string, handle: FileHandle, width: 2 | 4) {
    this.path = path;
    this.#handle = handle;
    this.#width = width;
  }

  /** @param path must not exist yet */
  static async create(path: string, width: 2 | 4): Promise<TokenWriter> {
    return new TokenWriter(path, await open(path, "wx", 0o600), width);
  }

  /** Whole rows so far. */
  get rows(): number {
    return this.#lengths.length;
  }

  get summary(): TokenSummary {
    return {
      kinds: this.#kinds,
      columns: this.#columns.counts,
      brokenCount: this.#brokenCount,
      broken: this.#broken,
    };
  }

  async add(chunk: EncodedChunk): Promise<void> {
    await this.#write(chunk.records);
    const ends = new Float64Array(chunk.recordBytes.length);
    for (const [i, bytes] of chunk.recordBytes.entries()) ends[i] = this.#recordBytes += bytes;
    this.#ends.append(ends);
    this.#lengths.append(chunk.lengths);
    this.#scored.append(chunk.scored);
    this.#flags.append(chunk.flags);
    for (const kind of ["text", "completion", "chat", "instruction", "ids"] as const)
      this.#kinds[kind] += chunk.kinds[kind];
    this.#columns.add(chunk.columns);
    this.#brokenCount += chunk.broken.length;
    this.#broken.push(...chunk.broken.slice(0, KEPT_BROKEN - this.#broken.length));
  }

  /** Writes tables, summary and trailer, and closes the file. */
  async finish(): Promise<void> {
    for (const column of [this.#ends, this.#lengths, this.#scored, this.#flags])
      await this.#write(column.bytes());
    const summary = Buffer.from(JSON.stringify(this.summary));
    await this.#write(summary);
    const head = trailerHead({
      rows: this.rows,
      recordBytes: this.#recordBytes,
      summaryBytes: summary.length,
      width: this.#width,
    });
    await this.#write(head);
    await this.#handle.writeFile(this.#hash.digest());
    await this.#handle.sync();
    await this.#handle.close();
  }

  /** Closes and removes the file. */
  async abandon(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await rm(this.path, { force: true });
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    // On a file handle, writeFile goes on where the last write ended.
    await this.#handle.writeFile(bytes);
  }
}
