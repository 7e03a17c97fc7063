/** One step with every call timed. Numbers only: the table and the trace are the report's. */
import { isProductKernel } from "../kernels/product.js";
import type { ProductPeak } from "../kernels/product_peak.js";
import type { Executor } from "../program/executor.js";
import { Profiler, type ProfileClock, type TimedCall } from "../program/profiler.js";

export interface StepProfile {
  readonly adapter: string;
  /** Counted from 1. */
  readonly step: number;
  readonly clock: ProfileClock;
  /** The step from outside, with the waits that timing adds. */
  readonly wallMs: number;
  readonly calls: readonly TimedCall[];
}

/** With what it is compared to. */
export interface MeasuredProfile extends StepProfile {
  readonly peak: ProductPeak;
}

/** Runs `work` with every call of the executor's programs timed. Its results are the same bits. */
export async function profiled<T>(
  executor: Executor,
  step: number,
  work: () => Promise<T>,
  clock?: ProfileClock,
): Promise<{ readonly result: T; readonly profile: StepProfile }> {
  await executor.idle();
  const profiler = new Profiler(executor.gpu, clock);
  executor.profiler = profiler;
  try {
    const began = performance.now();
    const result = await work();
    const wallMs = performance.now() - began;
    const { calls } = profiler;
    return {
      result,
      profile: { adapter: executor.gpu.traits.name, step, clock: profiler.clock, wallMs, calls },
    };
  } finally {
    executor.profiler = undefined;
    profiler.release();
  }
}

const isProduct = (call: TimedCall): boolean => isProductKernel(call.kernel);

/** Calls that a shader ran: all but transfers. */
export const dispatchCount = (calls: readonly TimedCall[]): number =>
  calls.filter((call) => call.kernel !== call.variant).length;

/** Part of the time of all calls that products with frozen weights take; 0 where nothing was timed. */
export function productShare(calls: readonly TimedCall[]): number {
  const total = calls.reduce((sum, c) => sum + c.ms, 0);
  return total === 0 ? 0 : calls.filter(isProduct).reduce((sum, c) => sum + c.ms, 0) / total;
}
