/** Times work that is too short for one submission. */
import type { Gpu } from "../gpu/device.js";

/** A measured submission of a real GPU takes at least so long: handing over and waiting take a good part of a millisecond. */
const LEAST_MS = 4;
/** However fast a piece is. */
const MOST_PIECES = 4096;
/** An idle GPU runs at a fraction of its clock rate (an H100 at a sixth), and takes a moment to notice work. */
const WAKING_MS = 400;

export class Stopwatch {
  readonly #gpu: Gpu;
  #isAwake = false;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /**
   * Milliseconds of one piece of work: the best of `repeats` submissions, after one that compiles it. On a real GPU a submission has as
   * many pieces as take a few milliseconds.
   * @param encode records so many pieces
   */
  async best(encode: (count: number) => GPUCommandBuffer, repeats: number): Promise<number> {
    const run = async (count: number): Promise<number> => {
      const commands = encode(count);
      const start = performance.now();
      this.#gpu.device.queue.submit([commands]);
      await this.#gpu.idle();
      return performance.now() - start;
    };
    await run(1);
    let count = 1;
    if (!this.#gpu.traits.isSoftware) {
      const awake = performance.now() + (this.#isAwake ? 0 : WAKING_MS);
      for (let ms = 0; (ms < LEAST_MS && count < MOST_PIECES) || performance.now() < awake;) {
        ms = await run(count);
        if (ms < LEAST_MS)
          count = Math.min(MOST_PIECES, Math.ceil(count * Math.min(8, (1.5 * LEAST_MS) / ms)));
      }
      this.#isAwake = true;
    }
    let best = Infinity;
    for (let i = 0; i < repeats; i++) best = Math.min(best, (await run(count)) / count);
    return best;
  }
}
