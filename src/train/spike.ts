/**
 * What counts as a loss spike: a step whose loss is far above those just before it. Median and median absolute deviation say what is usual,
 * because neither moves with single values. Which state a run goes back to is rollback.ts's business.
 */
import { QdoraError } from "../formats/error.js";
import { median } from "./median.js";

/** Losses that are looked back on. */
const WINDOW = 20;
/** With fewer, nothing is known to be unusual. */
const LEAST = 10;
/** Turns a median absolute deviation into a standard deviation, where values are normally distributed. */
const MAD_TO_DEVIATION = 1.4826;
/** The least deviation, as a part of the median: losses that hardly move are no reason to take small steps for spikes. */
const LEAST_DEVIATION = 0.02;

/**
 * The largest loss that is no spike.
 * @param recent losses of the steps before, as `remember` keeps them
 * @param deviations how far above the median, in standard deviations
 * @returns infinity while there are too few losses to tell
 */
export function spikeLimit(recent: readonly number[], deviations: number): number {
  if (recent.length < LEAST) return Infinity;
  const usual = median(recent);
  const deviation = MAD_TO_DEVIATION * median(recent.map((loss) => Math.abs(loss - usual)));
  return usual + deviations * Math.max(deviation, LEAST_DEVIATION * usual);
}

/** Adds the loss of a step that was no spike; the oldest go. */
export const remember = (recent: readonly number[], loss: number): readonly number[] =>
  [...recent, loss].slice(-WINDOW);

/** Before the run. @throws QdoraError (exit 2) if there will be nothing to go back to */
export function checkRollback(
  settings: { readonly loss_spike_rollback?: number | undefined; readonly save_steps?: number | undefined },
  hasStore = true,
): void {
  if (settings.loss_spike_rollback === undefined) return;
  if (settings.save_steps !== undefined && hasStore) return;
  throw new QdoraError(
    "loss_spike_rollback",
    "goes back to checkpoints, and this run makes none on the way",
    hasStore ? "set save_steps too, such as --save-steps 50" : "give train() a CheckpointStore",
    { exitCode: 2 },
  );
}
