/** Where a run stands between two optimizer steps. Rows, learning rate and random numbers all follow from it, so this and the trained state are the whole run. */
import { z } from "zod";

/** Going back to a checkpoint after a loss spike. */
const rollbackSchema = z.strictObject({
  /** The step with the spike. */
  step: z.int().min(1),
  /** The checkpoint's step. */
  to: z.int().min(0),
  loss: z.number(),
  /** Steps of data that are not used again, counted from 0 as `dataStep` counts. */
  left_out: z.array(z.int().min(0)),
});

export type Rollback = Readonly<z.infer<typeof rollbackSchema>>;

export const positionSchema = z.strictObject({
  /** Optimizer steps done. */
  step: z.int().min(0),
  /** Tokens trained on. */
  tokens: z.int().min(0),
  /** Steps without an update because loss or gradient was not finite. */
  skipped: z.int().min(0),
  /** How many of them were the last ones. */
  skipped_in_a_row: z.int().min(0),
  /** The held-out loss after this step is still to be measured. */
  evaluation_pending: z.boolean(),
  /** All that happened before; older checkpoints do not have it. */
  rollbacks: z.array(rollbackSchema).default([]),
  /** Losses of the last steps, where loss_spike_rollback looks at them. */
  recent_losses: z.array(z.number()).default([]),
});

export type Position = Readonly<z.infer<typeof positionSchema>>;

export const START: Position = {
  step: 0,
  tokens: 0,
  skipped: 0,
  skipped_in_a_row: 0,
  evaluation_pending: true,
  rollbacks: [],
  recent_losses: [],
};

/**
 * Which step of the data an optimizer step trains on: the same number, but for data that rollbacks leave out.
 * @param step counted from 0
 */
export function dataStep(step: number, rollbacks: readonly Rollback[]): number {
  let at = step;
  const leftOut = rollbacks.flatMap((r) => r.left_out).toSorted((a, b) => a - b);
  for (const gone of leftOut) if (gone <= at) at += 1;
  return at;
}
