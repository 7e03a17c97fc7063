/** After the GPU device was lost (a driver reset, a machine that slept) a run is started again, unless that happens too often. */
import { setTimeout as sleep } from "node:timers/promises";
import { QdoraError } from "../formats/error.js";
import { DeviceLostError } from "../gpu/errors.js";

const MAX_LOSSES = 3;
const WINDOW_MS = 600_000;
/** A driver that resets needs a moment. */
const PAUSE_MS = 2000;

export interface RestartOptions {
  readonly say: (text: string) => void;
  readonly signal?: AbortSignal | undefined;
  readonly pauseMs?: number;
  /** The clock, in milliseconds. */
  readonly now?: () => number;
}

/**
 * Runs `attempt` until it ends otherwise than by a lost device.
 * @param attempt makes everything anew, the device too
 * @throws QdoraError after the third loss in ten minutes; the signal's reason during the pause
 */
export async function withRestarts<T>(attempt: () => Promise<T>, options: RestartOptions): Promise<T> {
  const { say, signal, pauseMs = PAUSE_MS, now = Date.now } = options;
  let losses: number[] = [];
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      // Right after a loss there may be no GPU at all for a while.
      const isLoss =
        error instanceof DeviceLostError ||
        (losses.length > 0 && error instanceof QdoraError && error.area === "gpu");
      if (!isLoss || signal?.aborted) throw error;
      losses = [...losses.filter((at) => now() - at < WINDOW_MS), now()];
      if (losses.length >= MAX_LOSSES)
        throw new QdoraError(
          "gpu",
          `the device was lost ${losses.length} times in ten minutes; the last time: ${error.message}`,
          "look at the driver's messages and the GPU's temperature; --resume goes on from the newest checkpoint",
          { cause: error },
        );
      say(
        `${error.message}\nstarting again (${losses.length} of at most ${MAX_LOSSES - 1} times in ten minutes)`,
      );
      await sleep(pauseMs, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
    }
  }
}
