/**
 * Writes a safetensors file whose tensors come in pieces and in any order, with nothing of them in memory. Shapes are known
 * from the start, but for short texts ("late" tensors) whose length shows only when the data has passed: they lie at the end
 * of the file, and the header's place is kept for the longest that they may become.
 */
import { open, type FileHandle } from "node:fs/promises";
import { cannot } from "./files.js";
import { renderHeader, sortedForFile, tensorBytes, type Dtype } from "./safetensors.js";

export interface PlannedTensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

interface Place extends PlannedTensor {
  /** Counted from the start of the file. */
  readonly at: number;
  readonly bytes: number;
  written: number;
}

const u8 = (bytes: number): PlannedTensor => ({ dtype: "U8", shape: [bytes] });

/** Bytes of the file at most, header included. */
export function plannedBytes(
  tensors: ReadonlyMap<string, PlannedTensor>,
  late: ReadonlyMap<string, number>,
): number {
  const most = [...tensors, ...[...late].map(([name, bytes]) => [name, u8(bytes)] as const)];
  const data = most.reduce((sum, [, { shape, dtype }]) => sum + (tensorBytes(shape, dtype) ?? NaN), 0);
  return data + renderHeader(most, METADATA).byteLength;
}

const METADATA = { format: "pt" };

export class SafetensorsStream {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #headerBytes: number;
  readonly #places = new Map<string, Place>();
  readonly #late = new Map<string, Uint8Array | undefined>();
  #end: number;

  private constructor(
    path: string,
    handle: FileHandle,
    tensors: ReadonlyMap<string, PlannedTensor>,
    late: ReadonlyMap<string, number>,
  ) {
    this.path = path;
    this.#handle = handle;
    const sorted = sortedForFile(tensors);
    const longest = [...sorted, ...[...late].map(([name, bytes]) => [name, u8(bytes)] as const)];
    this.#headerBytes = renderHeader(longest, METADATA).byteLength;
    this.#end = this.#headerBytes;
    for (const [name, { dtype, shape }] of sorted) {
      const bytes = tensorBytes(shape, dtype) ?? NaN;
      this.#places.set(name, { dtype, shape, at: this.#end, bytes, written: 0 });
      this.#end += bytes;
    }
    for (const name of late.keys()) this.#late.set(name, undefined);
  }

  /**
   * @param path must not exist
   * @param late names of texts, with the most bytes each may have
   * @throws QdoraError if it cannot be written
   */
  static async create(
    path: string,
    tensors: ReadonlyMap<string, PlannedTensor>,
    late: ReadonlyMap<string, number>,
  ): Promise<SafetensorsStream> {
    const handle = await open(path, "wx").catch((cause: unknown) => {
      throw cannot("written", path, cause);
    });
    return new SafetensorsStream(path, handle, tensors, late);
  }

  /** Writes the next bytes of a tensor; the pieces of one tensor come in order. @throws QdoraError */
  async append(name: string, data: Uint8Array): Promise<void> {
    const place = this.#places.get(name);
    if (!place || place.written + data.byteLength > place.bytes)
      throw new Error(`${this.path}: ${data.byteLength} bytes too many for ${name}`);
    await this.#write(data, place.at + place.written);
    place.written += data.byteLength;
  }

  /** The bytes of a late tensor. */
  setLate(name: string, data: Uint8Array): void {
    if (!this.#late.has(name)) throw new Error(`${this.path}: ${name} is not among the late tensors`);
    this.#late.set(name, data);
  }

  /** Writes late tensors and the header, and brings all to the disk. @returns bytes of all tensors */
  async finish(): Promise<number> {
    const missing = [...this.#places].find(([, p]) => p.written !== p.bytes);
    if (missing) throw new Error(`${this.path}: ${missing[0]} has ${missing[1].written} bytes`);
    const entries: (readonly [string, PlannedTensor])[] = [...this.#places];
    for (const [name, data] of this.#late) {
      if (!data) throw new Error(`${this.path}: ${name} was not given`);
      await this.#write(data, this.#end);
      this.#end += data.byteLength;
      entries.push([name, u8(data.byteLength)]);
    }
    const header = renderHeader(entries, METADATA, this.#headerBytes);
    if (header.byteLength !== this.#headerBytes)
      throw new Error(`${this.path}: the header outgrew its place`);
    await this.#write(header, 0);
    await this.#handle.sync().catch((cause: unknown) => {
      throw cannot("written", this.path, cause);
    });
    return this.#end - this.#headerBytes;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #write(data: Uint8Array, at: number): Promise<void> {
    try {
      for (let done = 0; done < data.byteLength;) {
        const { bytesWritten } = await this.#handle.write(data, done, data.byteLength - done, at + done);
        done += bytesWritten;
      }
    } catch (cause) {
      throw cannot("written", this.path, cause);
    }
  }
}
