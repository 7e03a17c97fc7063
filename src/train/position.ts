/** Where a run stands between two optimizer steps. Rows, learning rate and random numbers all follow from the step, so this and the trained state are the whole run. */
import { z } from "zod";

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
});

export type Position = Readonly<z.infer<typeof positionSchema>>;

export const START: Position = {
  step: 0,
  tokens: 0,
  skipped: 0,
  skipped_in_a_row: 0,
  evaluation_pending: true,
};
