/** The training loop: it reads like the list of what happens. It tells listeners and never prints. */
import { makeMicroBatch, type MicroBatch } from "../data/batch.js";
import { stepUnits } from "../data/order.js";
import type { EncodedRow } from "../data/row.js";
import { QdoraError } from "../formats/error.js";
import type { FactorValues } from "../adapter/initial.js";
import { openGpu } from "../gpu/device.js";
import type { Listener } from "./events.js";
import { checkMemoryLimit, prepareRun, type PreparedRun } from "./prepare.js";
import { programCost } from "../program/costing.js";
import type { Program } from "../program/kernel.js";
import { recordRates } from "./rates.js";
import { transferBytes } from "./savings.js";
import { learningRateAt } from "./schedule.js";
import { TrainingSession } from "./session.js";
import type { TrainingSettings } from "./settings.js";

export interface TrainingResult {
  readonly run: PreparedRun;
  readonly steps: number;
  readonly adapter: ReadonlyMap<string, FactorValues>;
  readonly gpuPeakBytes: number;
  /** The adapter's GPU memory is the process's own. */
  readonly isSoftware: boolean;
}

/** Steps in a row without a finite gradient after which the run stops. */
const MAX_BAD_STEPS = 3;

/** Thrown when the caller's signal stops a run; the exit code is the signal's. */
export class StoppedError extends QdoraError {
  constructor(step: number) {
    super("finetune", `stopped after step ${step}; nothing was saved`, "start the same command again");
    this.name = "StoppedError";
  }
}

/** Trains an adapter. Files are the listeners' and the caller's business. */
export async function train(
  settings: TrainingSettings,
  listen: Listener,
  signal?: AbortSignal,
): Promise<TrainingResult> {
  const run = await prepareRun(settings, signal).catch((error: unknown) => {
    throw signal?.aborted ? new StoppedError(0) : error;
  });
  await listen({ type: "prepared", run });
  checkMemoryLimit(run);
  const gpu = await openGpu({ adapter: settings.device });
  try {
    await listen({ type: "gpu", name: gpu.traits.name, isSoftware: gpu.traits.isSoftware });
    const opened = performance.now();
    const say = (text: string): void => void listen({ type: "message", text });
    const session = await TrainingSession.open(
      run,
      gpu,
      say,
      (bytes) => void listen({ type: "loading", bytes }),
    );
    await listen({ type: "started", seconds: (performance.now() - opened) / 1000 });
    const steps = await loop(run, session, listen, signal);
    const adapter = await session.adapter();
    const gpuPeakBytes = gpu.ledger.peakBytes;
    await session.close();
    return { run, steps, adapter, gpuPeakBytes, isSoftware: gpu.traits.isSoftware };
  } finally {
    await gpu.destroy();
    run.dataset.close();
  }
}

async function loop(
  run: PreparedRun,
  session: TrainingSession,
  listen: Listener,
  signal: AbortSignal | undefined,
): Promise<number> {
  const { settings, dataset, totalSteps, warmupSteps } = run;
  const schedule = {
    scheduler: settings.lr_scheduler,
    learningRate: settings.learning_rate,
    warmupSteps,
    totalSteps,
  };
  const began = performance.now();
  let [tokens, bad] = [0, 0];
  const evaluate = async (step: number): Promise<void> => {
    if (dataset.validation.length === 0) return;
    const loss = await session.evaluate(validationBatches(run));
    await listen({ type: "evaluation", step, epoch: epochOf(run, step), loss });
  };
  await evaluate(0);
  let evaluationMs = performance.now() - began;
  for (let step = 0; step < totalSteps; step++) {
    if (signal?.aborted) throw new StoppedError(step);
    const batches = stepBatches(run, step);
    const learningRate = learningRateAt(schedule, step);
    const { loss, gradNorm } = await session.step(batches, {
      step,
      learningRate,
      weightDecay: settings.weight_decay,
      maxGradNorm: settings.max_grad_norm,
    });
    tokens += batches.reduce((sum, b) => sum + b.tokens, 0);
    bad = Number.isFinite(loss) && Number.isFinite(gradNorm) ? 0 : bad + 1;
    if (bad >= MAX_BAD_STEPS) {
      throw new QdoraError(
        "finetune",
        `loss or gradient was not finite in ${bad} steps in a row (step ${step + 1})`,
        "lower learning_rate, or look at the data",
      );
    }
    const seconds = (performance.now() - began - evaluationMs) / 1000;
    const done = step + 1;
    await listen({
      type: "step",
      step: done,
      totalSteps,
      loss,
      gradNorm,
      learningRate,
      epoch: epochOf(run, done),
      tokens,
      tokensPerSecond: tokens / seconds,
      gpuBytes: session.executor.gpu.ledger.peakBytes,
      logged: done % settings.logging_steps === 0 || done === totalSteps,
      secondsLeft: (seconds / done) * (totalSteps - done),
    });
    const last = done === totalSteps;
    if (last || (settings.eval_steps !== undefined && done % settings.eval_steps === 0)) {
      const paused = performance.now();
      await evaluate(done);
      evaluationMs += performance.now() - paused;
    }
  }
  const trained = (performance.now() - began - evaluationMs) / 1000;
  // Transfers would blur what the adapter computes.
  if (tokens > 0 && transferBytes(run) === 0)
    await recordRates(session.executor.gpu.traits.name, {
      flops: (flopsPerToken(run) * tokens) / trained,
      upload: session.uploadRate,
    });
  await listen({ type: "finished", step: totalSteps, seconds: (performance.now() - began) / 1000 });
  return totalSteps;
}

const flopsPerToken = (run: PreparedRun): number =>
  programCost(run.programs[0] as Program).flops / run.capacity;

/** Epochs done after a number of steps. */
function epochOf(run: PreparedRun, steps: number): number {
  const { batch_size: b, gradient_accumulation_steps: g } = run.settings;
  const units = run.dataset.units.length;
  const whole = Math.floor(steps / run.stepsPerEpoch);
  return whole + Math.min(1, ((steps % run.stepsPerEpoch) * b * g) / units);
}

/** The micro-batches of a step (counted from 0). */
export function stepBatches(run: PreparedRun, step: number): readonly MicroBatch[] {
  const { settings, dataset } = run;
  const order = {
    seed: settings.seed,
    shuffle: settings.shuffle,
    batchSize: settings.batch_size,
    accumulation: settings.gradient_accumulation_steps,
  };
  return stepUnits(dataset.units.length, step, order).map((units) =>
    makeMicroBatch(units.flatMap((u) => rowsOf(run, u))),
  );
}

function rowsOf(run: PreparedRun, unit: number) {
  return run.dataset.units.rowsOf(unit).map((row) => run.dataset.train.row(row));
}

/** Held-out rows, as many together as the planned capacity allows. */
function validationBatches(run: PreparedRun): readonly MicroBatch[] {
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
