/** Moves bytes between host and GPU in paced pieces: `writeBuffer` never blocks, so unpaced uploads would pile up in host memory. */
import type { Gpu } from "./device.js";
import { restfully } from "./wait.js";

const PIECE_BYTES = 4 << 20;
/** After so many bytes the uploads before must have arrived: at most twice as much waits in host memory. */
const PACE_BYTES = 32 << 20;

/** Counts what was written since the queue was last known to be empty. */
export class Uploader {
  readonly #gpu: Gpu;
  #pendingBytes = 0;
  #before: Promise<unknown> | undefined;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /**
   * Writes bytes to a buffer.
   * @param data its length a multiple of 4
   * @param offsetBytes multiple of 4
   */
  async write(buffer: GPUBuffer, offsetBytes: number, data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.byteLength; at += PIECE_BYTES) {
      const bytes = Math.min(PIECE_BYTES, data.byteLength - at);
      this.#gpu.device.queue.writeBuffer(buffer, offsetBytes + at, data.buffer, data.byteOffset + at, bytes);
      this.#pendingBytes += bytes;
      if (this.#pendingBytes >= PACE_BYTES) await this.#pace();
    }
  }

  async #pace(): Promise<void> {
    const { device, traits } = this.#gpu;
    device.queue.submit([]);
    const done = device.queue.onSubmittedWorkDone();
    if (this.#before) await restfully(this.#before, traits.isSoftware ? 1 : 0.1);
    this.#gpu.check();
    this.#before = done;
    this.#pendingBytes = 0;
  }

  /** An empty submit and a wait: afterwards no upload is pending and freed buffers are really free. */
  async flush(): Promise<void> {
    this.#gpu.device.queue.submit([]);
    await this.#gpu.idle();
    this.#pendingBytes = 0;
    this.#before = undefined;
  }
}

/** Copies a range of a buffer (a multiple of 4 bytes) to the host, through a staging buffer that the caller keeps. */
export async function readThrough(
  gpu: Gpu,
  buffer: GPUBuffer,
  offsetBytes: number,
  bytes: number,
  staging: GPUBuffer,
): Promise<ArrayBuffer> {
  const encoder = gpu.device.createCommandEncoder({ label: "read back" });
  encoder.copyBufferToBuffer(buffer, offsetBytes, staging, 0, bytes);
  gpu.device.queue.submit([encoder.finish()]);
  await restfully(staging.mapAsync(GPUMapMode.READ, 0, bytes), gpu.traits.isSoftware ? 1 : 0.1);
  const copy = staging.getMappedRange(0, bytes).slice(0);
  staging.unmap();
  gpu.check();
  return copy;
}
