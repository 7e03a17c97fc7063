/** Several tasks at a time; the first failure stops the others. */

/**
 * Runs `task` over all items, in their order, `workers` at once. All have ended when it returns.
 * @param outer ends all tasks, as a failure does
 * @throws what the first failing task threw
 */
export async function inParallel<T>(
  items: readonly T[],
  workers: number,
  outer: AbortSignal,
  task: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const stopAll = (): void => stop.abort(outer.reason);
  if (outer.aborted) stopAll();
  outer.addEventListener("abort", stopAll);
  const queue = items.values();
  let failure: { readonly error: unknown } | undefined;
  const work = async (): Promise<void> => {
    for (const item of queue) {
      if (failure) return;
      await task(item, stop.signal);
    }
  };
  const all = Array.from({ length: Math.min(workers, items.length) }, () =>
    work().catch((error: unknown) => {
      failure ??= { error };
      stop.abort(error);
    }),
  );
  await Promise.all(all);
  outer.removeEventListener("abort", stopAll);
  if (failure) throw failure.error;
}
