/**
 * Collecting garbage where it holds memory that V8 does not see. A shader module keeps its parsed program in Dawn (2 to 9 MB
 * for a large kernel) until its JavaScript object is collected, and WebGPU has no call that ends it sooner; V8 sees a few
 * bytes and is in no hurry.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collect: NodeJS.GCFunction | undefined;

/** Collects all garbage; what Dawn holds for it is given back by the time this returns. Some 10 ms, more in large heaps. */
export async function collectGarbage(): Promise<void> {
  // A process that has the flag (--expose-gc) keeps it.
  collect ??= globalThis.gc;
  if (!collect) {
    // Only contexts that are made while the flag is set see the function.
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as NodeJS.GCFunction;
    setFlagsFromString("--no-expose-gc");
  }
  collect();
  // Node runs finalizers on the next turn of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
}
