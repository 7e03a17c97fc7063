/** Answers that may be better a moment later, and the bounded loop that asks again. */
import { QdoraError } from "../formats/error.js";

/** The network or the server failed, not the request: worth another try, and in the end worth a look into the cache. */
export class HubTrouble extends QdoraError {
  /** What the server asked to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** No connection came about: there is no network, no such host, or nobody listens there. */
  readonly isUnreachable: boolean;

  constructor(
    area: string,
    fact: string,
    hint: string,
    options: { retryAfterMs?: number | undefined; isUnreachable?: boolean; cause?: unknown } = {},
  ) {
    super(area, fact, hint, { cause: options.cause });
    this.name = "HubTrouble";
    this.isUnreachable = options.isUnreachable ?? false;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Tries in a row that may bring nothing. */
export const MAX_TRIES = 5;
const MAX_RETRY_AFTER_MS = 60_000;
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 8000;

/** The wait before try `tries + 1`: the server's wish, capped, or doubling with some chance in it. */
export function waitMs(error: HubTrouble, tries: number): number {
  if (error.retryAfterMs !== undefined) return Math.min(error.retryAfterMs, MAX_RETRY_AFTER_MS);
  return Math.min(FIRST_WAIT_MS * 2 ** (tries - 1), MAX_WAIT_MS) * (0.75 + Math.random() / 4);
}

/** `Retry-After` as milliseconds: seconds or a date. */
export function parseRetryAfter(value: string | null): number | undefined {
  const text = value?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = /[a-z]/i.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

/** @throws the signal's reason as soon as it is aborted */
export function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((done, failed) => {
    const stop = (): void => {
      clearTimeout(timer);
      failed(signal.reason instanceof Error ? signal.reason : new Error("stopped"));
    };
    if (signal.aborted) return stop();
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      done();
    }, milliseconds);
    signal.addEventListener("abort", stop, { once: true });
  });
}

export interface Retrying {
  readonly signal: AbortSignal;
  /** Said before each wait. */
  readonly onWait: (error: HubTrouble, milliseconds: number) => void;
  /** Default MAX_TRIES. */
  readonly tries?: number;
  /** The same where the machine has no way to the server; default `tries`. */
  readonly triesUnreachable?: number;
}

/** Repeats `task` while it ends in HubTrouble. @throws the last trouble, or any other error at once */
export async function withRetries<T>(task: () => Promise<T>, retrying: Retrying): Promise<T> {
  const { signal, onWait, tries = MAX_TRIES, triesUnreachable = tries } = retrying;
  for (let count = 1; ; count++) {
    try {
      return await task();
    } catch (error) {
      if (!(error instanceof HubTrouble) || signal.aborted) throw error;
      if (count >= (error.isUnreachable ? triesUnreachable : tries)) throw error;
      const wait = waitMs(error, count);
      onWait(error, wait);
      await sleep(wait, signal);
    }
  }
}
