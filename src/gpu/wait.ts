/**
 * Waiting for the GPU without burning a core. While a GPU promise is pending, dawn.node polls from setImmediate without
 * rest; sleeping between the turns of the event loop gives the cores to a software adapter (up to twice as fast on two cores).
 */
const cell = new Int32Array(new SharedArrayBuffer(4));
/** One number per waiter: how long it is content to rest. One loop serves them all. */
const rests = new Set<{ readonly restMs: number }>();
let turning = false;
/** Milliseconds in which somebody waited, and since when somebody does. */
let [waited, waitingSince] = [0, 0];

/** Milliseconds of this process so far in which GPU work was waited for; waits at the same time count once. */
export const waitedMs = (): number => waited + (rests.size > 0 ? performance.now() - waitingSince : 0);

function turn(): void {
  if (rests.size === 0) {
    turning = false;
    return;
  }
  turning = true;
  let restMs = Infinity;
  for (const waiter of rests) restMs = Math.min(restMs, waiter.restMs);
  Atomics.wait(cell, 0, 0, restMs);
  setImmediate(turn);
}

/** Awaits a GPU promise, resting `restMs` between polls. Signals and timers still run between the rests. */
export async function restfully<T>(promise: Promise<T>, restMs = 1): Promise<T> {
  const waiter = { restMs };
  if (rests.size === 0) waitingSince = performance.now();
  rests.add(waiter);
  if (!turning) {
    turning = true;
    setImmediate(turn);
  }
  try {
    return await promise;
  } finally {
    rests.delete(waiter);
    if (rests.size === 0) waited += performance.now() - waitingSince;
  }
}
