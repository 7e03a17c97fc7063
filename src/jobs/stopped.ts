/** What a caller's signal ends before there is a run ends as a stopped run does. */
import { StoppedError } from "../train/interrupt.js";

/** @throws StoppedError in place of the signal's reason */
export async function asStopped<T>(signal: AbortSignal | undefined, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (signal?.aborted === true && error === signal.reason) throw new StoppedError(0, undefined);
    throw error;
  }
}
