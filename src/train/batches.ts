/** The micro-batches of a run: those of each step, those of an evaluation, and how far into the data a step is. */
import { makeMicroBatch, type MicroBatch } from "../data/batch.js";
import { stepUnits } from "../data/order.js";
import type { EncodedRow } from "../data/row.js";
import { dataStep, type Rollback } from "./position.js";
import type { PreparedRun } from "./prepare.js";

/** Epochs done after a number of steps; data that was left out counts as seen. */
export function epochOf(run: PreparedRun, done: number, rollbacks: readonly Rollback[] = []): number {
  const { batch_size: b, gradient_accumulation_steps: g } = run.settings;
  const units = run.dataset.units.length;
  const steps = done === 0 ? 0 : dataStep(done - 1, rollbacks) + 1;
  const whole = Math.floor(steps / run.stepsPerEpoch);
  return whole + Math.min(1, ((steps % run.stepsPerEpoch) * b * g) / units);
}

/** The micro-batches of a step (counted from 0). */
export function stepBatches(
  run: PreparedRun,
  step: number,
  rollbacks: readonly Rollback[] = [],
): readonly MicroBatch[] {
  const { settings, dataset } = run;
  const order = {
    seed: settings.seed,
    shuffle: settings.shuffle,
    batchSize: settings.batch_size,
    accumulation: settings.gradient_accumulation_steps,
  };
  return stepUnits(dataset.units.length, dataStep(step, rollbacks), order).map((units) =>
    makeMicroBatch(units.flatMap((u) => rowsOf(run, u))),
  );
}

function rowsOf(run: PreparedRun, unit: number) {
  return run.dataset.units.rowsOf(unit).map((row) => run.dataset.train.row(row));
}

/** Held-out rows, as many together as the planned capacity allows. */
export function validationBatches(run: PreparedRun): readonly MicroBatch[] {
  const batches: MicroBatch[] = [];
  let rows: EncodedRow[] = [];
  let tokens = 0;
  for (const row of run.dataset.validation) {
    if (rows.length > 0 && tokens + row.inputIds.length > run.capacity) {
      batches.push(makeMicroBatch(rows));
      [rows, tokens] = [[], 0];
    }
    rows.push(row);
    tokens += row.inputIds.length;
  }
  if (rows.length > 0) batches.push(makeMicroBatch(rows));
  return batches;
}
