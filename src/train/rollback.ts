/**
 * `loss_spike_rollback`: after a loss spike the run goes back to a checkpoint and leaves out the data of the spike and of the steps just before
 * it. Everything follows from the position and from the checkpoints that save_steps makes, so a run that is stopped and resumed does the same.
 */
import { QdoraError } from "../formats/error.js";
import { checkpointName } from "./checkpoint_folder.js";
import type { CheckpointStore } from "./checkpoint_store.js";
import { dataStep, type Position, type Rollback } from "./position.js";
import { restoreSession } from "./restore.js";
import type { TrainingSession } from "./session.js";

/** A loss is measured before the step's own update: what the steps before did shows in it too. */
const STEPS_BEFORE = 2;
/** How often a run goes back without having come to a newer checkpoint. */
const MAX_ROLLBACKS = 3;

export interface Spike {
  /** Counted from 1. */
  readonly step: number;
  readonly loss: number;
  /** The largest loss that would have been none. */
  readonly limit: number;
}

export interface RolledBack {
  readonly position: Position;
  readonly rollback: Rollback;
}

/** The data of the spike's step and of those before it, as far as they came after the checkpoint. */
function leftOut(spike: Spike, to: number, rollbacks: readonly Rollback[]): number[] {
  const last = spike.step - 1;
  const first = Math.max(to, last - STEPS_BEFORE);
  return Array.from({ length: last - first + 1 }, (_, i) => dataStep(first + i, rollbacks));
}

/** What to do after the last rollback. @param newer checkpoints that --resume would take instead */
function wayOut(to: number, newer: readonly number[]): string {
  const aside = newer.map(checkpointName).join(" and ");
  const first = newer.length > 0 ? `move ${aside} out of the folder (it may be spoilt already), ` : "";
  return `--resume alone comes to the same: ${first}lower learning_rate or raise loss_spike_rollback, and go on with --resume from ${checkpointName(to)}; or look at the data`;
}

/**
 * Puts the state of an older checkpoint back and removes the newer ones, which are of a run that no longer exists.
 * @param position that before the spike's step
 * @throws QdoraError when that has been of no use several times
 */
export async function rollBack(
  store: CheckpointStore,
  session: TrainingSession,
  position: Position,
  spike: Spike,
): Promise<RolledBack> {
  const { step, loss, limit } = spike;
  const saved = await store.findRollbackPoint(step, position.rollbacks);
  const { step: to } = saved.position;
  const tried = position.rollbacks.filter((r) => r.to >= to).length;
  if (tried >= MAX_ROLLBACKS)
    throw new QdoraError(
      "finetune",
      `the loss of step ${step} is a spike again (${loss.toFixed(4)}, limit ${limit.toFixed(4)}), after ${tried} rollbacks`,
      wayOut(to, await store.stepsAfter(to)),
    );
  await store.removeAfter(to);
  await restoreSession(saved, session);
  const rollback: Rollback = { step, to, loss, left_out: leftOut(spike, to, position.rollbacks) };
  // A checkpoint of a run that was stopped may say that its evaluation is still to be made: the run has made it since.
  const rollbacks = [...position.rollbacks, rollback];
  return { rollback, position: { ...saved.position, evaluation_pending: false, rollbacks } };
}
