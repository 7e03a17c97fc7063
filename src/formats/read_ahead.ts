/** Reads a tensor piece by piece; while one piece is worked on, the next is on its way from the disk. */
import type { Checkpoint } from "./checkpoint.js";
import type { TensorEntry } from "./safetensors.js";

/** Two buffers that serve all tensors of a load one after the other, grown to the largest piece asked for. */
export class ReadAhead {
  readonly #checkpoint: Checkpoint;
  readonly #buffers: ArrayBuffer[] = [new ArrayBuffer(0), new ArrayBuffer(0)];

  constructor(checkpoint: Checkpoint) {
    this.#checkpoint = checkpoint;
  }

  /**
   * The bytes of a tensor from `firstByte` on, in pieces. Only one such reading may run at a time.
   * @param pieceBytes all pieces but the last have this size
   * @yields memory that the next piece but one overwrites; it starts at the start of its buffer
   * @throws QdoraError if the file is shorter than it was when it was opened
   */
  async *pieces(
    entry: TensorEntry,
    firstByte: number,
    byteCount: number,
    pieceBytes: number,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const read = (index: number): Promise<Uint8Array<ArrayBuffer>> => {
      const at = index * pieceBytes;
      const bytes = Math.min(pieceBytes, byteCount - at);
      const out = this.#buffer(index % 2, bytes);
      return this.#checkpoint.read(entry, firstByte + at, bytes, out).then(() => out);
    };
    const count = Math.ceil(byteCount / pieceBytes);
    let next = count > 0 ? read(0) : undefined;
    try {
      for (let i = 0; next; i++) {
        const piece = await next;
        next = i + 1 < count ? read(i + 1) : undefined;
        // It may fail before it is awaited.
        next?.catch(() => undefined);
        yield piece;
      }
    } finally {
      // A reading that ends early leaves no read behind that could write into a buffer later.
      await next?.catch(() => undefined);
    }
  }

  #buffer(index: number, bytes: number): Uint8Array<ArrayBuffer> {
    let buffer = this.#buffers[index];
    if (!buffer || buffer.byteLength < bytes)
      this.#buffers[index] = buffer = new ArrayBuffer(Math.ceil(bytes / 4) * 4);
    return new Uint8Array(buffer, 0, bytes);
  }
}
