/**
 * Rows of a token file (token_layout.ts). Its tables stay in memory, 17 bytes a row; its records too if they are few, else
 * they are read when a row is asked for.
 */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { readTrailer, TRAILER_BYTES, type TokenSummary } from "./token_layout.js";
import { readRecord, TRUNCATED } from "./token_records.js";
import type { EncodedRow } from "./row.js";

/** Up to here records are kept in memory, and the file is closed. */
const IN_MEMORY_BYTES = 32 * 1024 * 1024;
const HASH_PIECE_BYTES = 1 << 20;

export class TokenFile {
  readonly rows: number;
  /** [rows] tokens of each row */
  readonly lengths: Uint32Array;
  /** [rows] labels that count */
  readonly scored: Uint32Array;
  readonly summary: TokenSummary;
  readonly #ends: Float64Array;
  readonly #flags: Uint8Array;
  readonly #width: 2 | 4;
  readonly #memory: Uint8Array | undefined;
  #file: number | undefined;

  /**
   * @param path a file that a TokenWriter has finished
   * @returns undefined if the file is damaged or of another version
   * @throws the system's error if it cannot be opened
   */
  static open(path: string): TokenFile | undefined {
    const file = openSync(path, "r");
    try {
      const found = new TokenFile(file);
      if (found.#memory) closeSync(file);
      return found;
    } catch (error) {
      closeSync(file);
      if (error instanceof DamagedFile) return undefined;
      throw error;
    }
  }

  private constructor(file: number) {
    const size = fstatSync(file).size;
    if (size < TRAILER_BYTES) throw new DamagedFile();
    const trailer = readTrailer(readFully(file, size - TRAILER_BYTES, TRAILER_BYTES), size);
    if (!trailer || !hashOf(file, size - trailer.hash.length).equals(trailer.hash)) throw new DamagedFile();
    const { rows, recordBytes, summaryBytes, width } = trailer;
    let at = recordBytes;
    const next = (bytes: number): Uint8Array<ArrayBuffer> => {
      const read = readFully(file, at, bytes);
      at += bytes;
      return read;
    };
    this.rows = rows;
    this.#width = width;
    this.#ends = new Float64Array(next(8 * rows).buffer);
    this.lengths = new Uint32Array(next(4 * rows).buffer);
    this.scored = new Uint32Array(next(4 * rows).buffer);
    this.#flags = next(rows);
    this.summary = JSON.parse(Buffer.from(next(summaryBytes)).toString()) as TokenSummary;
    this.#memory = recordBytes <= IN_MEMORY_BYTES ? readFully(file, 0, recordBytes) : undefined;
    this.#file = this.#memory ? undefined : file;
  }

  isTruncated(row: number): boolean {
    return ((this.#flags[row] ?? 0) & TRUNCATED) !== 0;
  }

  /** @param row below `rows` */
  row(row: number): EncodedRow {
    const start = row === 0 ? 0 : (this.#ends[row - 1] ?? 0);
    const end = this.#ends[row];
    if (end === undefined) throw new RangeError(`row ${row} of ${this.rows}`);
    return readRecord(this.#bytes(start, end), this.#width, {
      length: this.lengths[row] ?? 0,
      scored: this.scored[row] ?? 0,
      flags: this.#flags[row] ?? 0,
    });
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #bytes(start: number, end: number): Uint8Array {
    if (this.#memory) return this.#memory.subarray(start, end);
    if (this.#file === undefined) throw new Error("the token file is closed");
    return readFully(this.#file, start, end - start);
  }
}

/** The file is no token file of this version, or not what was written. */
class DamagedFile extends Error {}

function readFully(file: number, offset: number, byteCount: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(byteCount);
  for (let done = 0; done < byteCount;) {
    const read = readSync(file, bytes, done, Math.min(byteCount - done, 1 << 30), offset + done);
    if (read === 0) throw new DamagedFile();
    done += read;
  }
  return bytes;
}

function hashOf(file: number, byteCount: number): Buffer {
  const hash = createHash("sha256");
  for (let at = 0; at < byteCount; at += HASH_PIECE_BYTES)
    hash.update(readFully(file, at, Math.min(HASH_PIECE_BYTES, byteCount - at)));
  return hash.digest();
}
