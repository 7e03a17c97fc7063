/** Being told to stop: what ends a run before its end, and how waits end with it. */
import { QdoraError } from "../formats/error.js";

/** Thrown when the caller's signal stops a run; the exit code is the signal's. */
export class StoppedError extends QdoraError {
  /** @param saved the checkpoint that holds the state, if there is one */
  constructor(step: number, saved: string | undefined) {
    super(
      "finetune",
      saved === undefined
        ? `stopped ${step === 0 ? "before the first step" : `after step ${step}`}; nothing new was saved`
        : `stopped after step ${step}; saved in ${saved}`,
      saved === undefined
        ? "start the same command again"
        : "the same command with --resume goes on from there",
    );
    this.name = "StoppedError";
  }
}

/** Settles as the promise does, or rejects with the signal's reason as soon as it is aborted; the work behind it ends by itself or with the process. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  // A promise that loses the race may still fail later, unheard.
  promise.catch(() => undefined);
  signal.throwIfAborted();
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason instanceof Error ? signal.reason : new Error("stopped"));
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** A terminal's Ctrl-C also reaches child processes, whose end may be noticed before the signal is: gives it a moment. */
export async function wasInterrupted(signal: AbortSignal | undefined): Promise<boolean> {
  if (signal && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 50));
  return signal?.aborted ?? false;
}
