/** Moves tensors to the host while the GPU works on: two staging buffers take turns, so a piece is copied out while the next one is filled. */
import type { Gpu } from "./device.js";
import { restfully } from "./wait.js";

export interface DownloadPiece {
  readonly source: GPUBuffer;
  readonly sourceOffset: number;
  /** Multiple of 4. */
  readonly bytes: number;
  /** Called with the piece; copy it before returning. */
  readonly take: (piece: Uint8Array) => void;
}

export class Downloader {
  readonly #gpu: Gpu;
  readonly #staging: readonly GPUBuffer[];
  readonly #pieceBytes: number;
  readonly #pending: Promise<void>[] = [];
  #turn = 0;

  /** @param staging buffers of `pieceBytes`, MAP_READ and COPY_DST, owned by the caller */
  constructor(gpu: Gpu, staging: readonly GPUBuffer[], pieceBytes: number) {
    this.#gpu = gpu;
    this.#staging = staging;
    this.#pieceBytes = pieceBytes;
  }

  /** Starts to bring a range; returns when its last piece is under way. */
  async start(
    source: GPUBuffer,
    sourceOffset: number,
    bytes: number,
    take: (offsetBytes: number, piece: Uint8Array) => void,
  ): Promise<void> {
    for (let at = 0; at < bytes; at += this.#pieceBytes) {
      await this.#piece({
        source,
        sourceOffset: sourceOffset + at,
        bytes: Math.min(this.#pieceBytes, bytes - at),
        take: (piece) => take(at, piece),
      });
    }
  }

  async #piece(piece: DownloadPiece): Promise<void> {
    const turn = this.#turn++ % this.#staging.length;
    const staging = this.#staging[turn];
    if (!staging) throw new Error("no staging buffers were planned for downloads");
    await this.#pending[turn];
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder({ label: "download" });
    encoder.copyBufferToBuffer(piece.source, piece.sourceOffset, staging, 0, piece.bytes);
    device.queue.submit([encoder.finish()]);
    const arrival = this.#arrive(staging, piece);
    // Who waits for it next hears of a lost device; until then, or where the run ends before, that is no unhandled rejection.
    arrival.catch(() => undefined);
    this.#pending[turn] = arrival;
  }

  async #arrive(staging: GPUBuffer, piece: DownloadPiece): Promise<void> {
    const { traits } = this.#gpu;
    await restfully(staging.mapAsync(GPUMapMode.READ, 0, piece.bytes), traits.isSoftware ? 1 : 0.1);
    piece.take(new Uint8Array(staging.getMappedRange(0, piece.bytes)));
    staging.unmap();
    this.#gpu.check();
  }

  /** Waits until everything that was started has arrived. */
  async finish(): Promise<void> {
    await Promise.all(this.#pending);
    this.#pending.length = 0;
  }
}
