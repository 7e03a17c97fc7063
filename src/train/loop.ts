/** The training loop: it reads like the list of what happens. */
import { QdoraError } from "../formats/error.js";
import { hasHalfMatrices } from "../kernels/product_matrix.js";
import { programCost } from "../program/costing.js";
import type { Program } from "../program/kernel.js";
import { epochOf, stepBatches, validationBatches } from "./batches.js";
import { checkpointName } from "./checkpoint_folder.js";
import type { CheckpointStore } from "./checkpoint_store.js";
import type { Listener } from "./events.js";
import { StoppedError } from "./interrupt.js";
import type { Position } from "./position.js";
import type { PreparedRun } from "./prepare.js";
import { profiled, type StepProfile } from "./profile.js";
import { recordRates } from "./rates.js";
import { rollBack } from "./rollback.js";
import { learningRateAt } from "./schedule.js";
import type { StepNumbers, TrainingSession } from "./session.js";
import { checkRollback, remember, spikeLimit } from "./spike.js";

/** Steps in a row without a finite loss and gradient after which the run stops. */
const MAX_BAD_STEPS = 3;

/**
 * Trains from a position to the end of the run.
 * @param onProfile asks for a profile of one step and gets it
 * @throws StoppedError when the signal stopped it, after saving; QdoraError after several steps that were not finite
 */
export async function trainingLoop(
  run: PreparedRun,
  session: TrainingSession,
  start: Position,
  listen: Listener,
  signal: AbortSignal | undefined,
  store: CheckpointStore | undefined,
  onProfile?: (profile: StepProfile) => void,
): Promise<Position> {
  const loop = new Loop(run, session, start, listen, signal, store, onProfile);
  try {
    await loop.toTheEnd();
    return loop.position;
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw error;
    // A step that was cut short has changed nothing: the state is that after the last whole one.
    const saved = await loop.saveGood();
    throw new StoppedError(loop.position.step, saved);
  }
}

class Loop {
  position: Position;
  /** The last position with a finite step before it. Steps that are not finite change nothing, so the present state is also its state. */
  #good: Position;
  readonly #run: PreparedRun;
  readonly #session: TrainingSession;
  readonly #listen: Listener;
  readonly #signal: AbortSignal | undefined;
  readonly #store: CheckpointStore | undefined;
  readonly #start: Position;
  readonly #onProfile: ((profile: StepProfile) => void) | undefined;
  readonly #began = performance.now();
  /** Time spent on evaluations and checkpoints. */
  #asideMs = 0;
  /** Steps and tokens since then, with those that a rollback undid. */
  #stepsHere = 0;
  #tokensHere = 0;

  constructor(
    run: PreparedRun,
    session: TrainingSession,
    start: Position,
    listen: Listener,
    signal: AbortSignal | undefined,
    store: CheckpointStore | undefined,
    onProfile: ((profile: StepProfile) => void) | undefined,
  ) {
    checkRollback(run.settings, store !== undefined);
    this.#run = run;
    this.#session = session;
    this.#start = start;
    this.position = start;
    this.#good = start;
    this.#listen = listen;
    this.#signal = signal;
    this.#store = store;
    this.#onProfile = onProfile;
  }

  async toTheEnd(): Promise<void> {
    const { totalSteps } = this.#run;
    await this.#aside(() => this.#evaluate());
    const { loss_spike_rollback: canRollBack } = this.#run.settings;
    if (canRollBack !== undefined && this.position.step === 0) await this.#aside(() => this.#save());
    while (this.position.step < totalSteps) {
      this.#signal?.throwIfAborted();
      await this.#step();
      await this.#aside(() => this.#evaluate());
      if (this.#isSaveDue()) await this.#aside(() => this.#saveDue());
    }
    await this.#recordRates();
    await this.#listen({
      type: "finished",
      step: totalSteps,
      seconds: (performance.now() - this.#began) / 1000,
    });
  }

  /** Remembers how fast this adapter computes; large transfers and a profile would blur it. */
  async #recordRates(): Promise<void> {
    const tokens = this.#tokensHere;
    const { model, storage } = this.#run;
    const moves = model.ring !== undefined || storage.checkpointPlace === "host";
    if (tokens === 0 || moves || this.#onProfile) return;
    const seconds = (performance.now() - this.#began - this.#asideMs) / 1000;
    const flopsPerToken = programCost(this.#run.programs[0] as Program).flops / this.#run.capacity;
    const { executor, uploadRate } = this.#session;
    const flops = (flopsPerToken * tokens) / seconds;
    try {
      await recordRates(executor.gpu.traits.name, { flops, upload: uploadRate });
    } catch (error) {
      // A run is not to end without its adapter because a cache cannot be written.
      if (!(error instanceof QdoraError)) throw error;
      const text = `note: the speed of this run is not kept for plans: ${error.message}`;
      await this.#listen({ type: "message", text });
    }
  }

  async #step(): Promise<void> {
    const run = this.#run;
    const { settings, totalSteps } = run;
    const { step, rollbacks } = this.position;
    const batches = stepBatches(run, step, rollbacks);
    const learningRate = learningRateAt(
      {
        scheduler: settings.lr_scheduler,
        learningRate: settings.learning_rate,
        warmupSteps: run.warmupSteps,
        totalSteps,
      },
      step,
    );
    const scalars = {
      // Moments know nothing of steps that were skipped, and so does their bias correction.
      step: step - this.position.skipped,
      learningRate,
      weightDecay: settings.weight_decay,
      maxGradNorm: settings.max_grad_norm,
    };
    const work = (): Promise<StepNumbers> => this.#session.step(batches, scalars, this.#signal);
    const { loss, gradNorm } = this.#isProfiled(step) ? await this.#profile(step + 1, work) : await work();
    const isFinite = Number.isFinite(loss) && Number.isFinite(gradNorm);
    const done = step + 1;
    const stepTokens = batches.reduce((sum, b) => sum + b.tokens, 0);
    this.#stepsHere += 1;
    this.#tokensHere += stepTokens;
    if (isFinite && (await this.#rollBackFrom(done, loss))) return;
    const { eval_steps: evalSteps } = settings;
    this.position = {
      ...this.#withLoss(loss),
      step: done,
      tokens: this.position.tokens + stepTokens,
      skipped: this.position.skipped + (isFinite ? 0 : 1),
      skipped_in_a_row: isFinite ? 0 : this.position.skipped_in_a_row + 1,
      evaluation_pending: done === totalSteps || (evalSteps !== undefined && done % evalSteps === 0),
    };
    if (isFinite) this.#good = this.position;
    else await this.#notFinite();
    const { tokens } = this.position;
    const seconds = (performance.now() - this.#began - this.#asideMs) / 1000;
    await this.#listen({
      type: "step",
      step: done,
      totalSteps,
      loss,
      gradNorm,
      learningRate,
      epoch: epochOf(run, done, rollbacks),
      tokens,
      tokensPerSecond: this.#tokensHere / seconds,
      gpuBytes: this.#session.executor.gpu.ledger.peakBytes,
      logged: done % settings.logging_steps === 0 || done === totalSteps,
      secondsLeft: (seconds / this.#stepsHere) * (totalSteps - done),
    });
  }

  /** The position, with a step's loss among the recent ones where a spike is to be told by them. */
  #withLoss(loss: number): Position {
    const { loss_spike_rollback: deviations } = this.#run.settings;
    if (deviations === undefined || !Number.isFinite(loss)) return this.position;
    return { ...this.position, recent_losses: [...remember(this.position.recent_losses, loss)] };
  }

  /** Goes back to a checkpoint if the loss of the step just done is a spike. @returns whether it was one */
  async #rollBackFrom(step: number, loss: number): Promise<boolean> {
    const { loss_spike_rollback: deviations } = this.#run.settings;
    if (deviations === undefined || !this.#store) return false;
    const limit = spikeLimit(this.position.recent_losses, deviations);
    if (loss <= limit) return false;
    const back = await rollBack(this.#store, this.#session, this.position, { step, loss, limit });
    this.position = this.#good = back.position;
    const { to, left_out: leftOut } = back.rollback;
    await this.#listen({
      type: "rollback",
      count: back.position.rollbacks.length,
      step,
      loss,
      limit,
      to,
      leftOut: leftOut.length,
    });
    return true;
  }

  /** The first step here compiles and warms up; it is taken only if there is no other. */
  #isProfiled(step: number): boolean {
    const { step: start } = this.#start;
    return this.#onProfile !== undefined && step === Math.min(start + 1, this.#run.totalSteps - 1);
  }

  async #profile(step: number, work: () => Promise<StepNumbers>): Promise<StepNumbers> {
    const { result, profile } = await profiled(this.#session.executor, step, work);
    this.#onProfile?.(profile);
    return result;
  }

  /** The optimizer left everything as it was. Counts the step, and ends a run that does not recover. */
  async #notFinite(): Promise<void> {
    const { step, skipped, skipped_in_a_row: bad } = this.position;
    if (bad < MAX_BAD_STEPS) {
      const text = `step ${step}: loss or gradient is not finite, the adapter was left as it is (${skipped} such step${skipped > 1 ? "s" : ""} so far)`;
      await this.#listen({ type: "message", text });
      return;
    }
    const saved = this.#good.step > 0 ? await this.saveGood() : undefined;
    const isHalf = this.#run.storage.halfProducts && hasHalfMatrices(this.#session.executor.gpu.traits);
    const more = isHalf ? "; products run in f16: is it the same with compute_dtype f32?" : "";
    throw new QdoraError(
      "finetune",
      `loss or gradient was not finite in ${bad} steps in a row (step ${step})`,
      saved === undefined
        ? `lower learning_rate, or look at the data${more}`
        : `lower learning_rate and go on with --resume from ${checkpointName(this.position.step)}, the last good state; or look at the data${more}`,
    );
  }

  /** The newest checkpoint is to be one that training can go on from: none is made while steps fail. */
  #isSaveDue(): boolean {
    const { step, skipped_in_a_row: bad } = this.position;
    const { totalSteps } = this.#run;
    return (this.#store?.isDue(step, totalSteps) ?? false) && (bad === 0 || step === totalSteps);
  }

  async #evaluate(): Promise<void> {
    const run = this.#run;
    if (!this.position.evaluation_pending) return;
    const { step, rollbacks } = this.position;
    if (run.dataset.validation.length > 0) {
      const loss = await this.#session.evaluate(validationBatches(run), this.#signal);
      await this.#listen({ type: "evaluation", step, epoch: epochOf(run, step, rollbacks), loss });
    }
    const isGood = this.#good === this.position;
    this.position = { ...this.position, evaluation_pending: false };
    if (isGood) this.#good = this.position;
  }

  /** After the last step a checkpoint that cannot be saved costs no more than itself: the adapter is still to be written. */
  async #saveDue(): Promise<void> {
    try {
      await this.#save();
    } catch (error) {
      if (!(error instanceof QdoraError) || this.position.step < this.#run.totalSteps) throw error;
      await this.#listen({ type: "message", text: `note: ${error.message}; the adapter does without it` });
    }
  }

  /** @returns the checkpoint's path; undefined where none are kept */
  async #save(): Promise<string | undefined> {
    const isNew = this.#store?.newest !== this.position.step;
    const folder = await this.#store?.save(this.#run, this.#session, this.position);
    if (folder !== undefined && isNew)
      await this.#listen({ type: "saved", folder, step: this.position.step });
    return folder;
  }

  /**
   * Saves the last good position in place of the present one. A run that goes on from it comes to the same steps that are not finite, as if it had
   * never been stopped: there is no checkpoint that an undisturbed run lacks, and they are counted from the first.
   */
  async saveGood(): Promise<string | undefined> {
    this.position = this.#good;
    return this.#save();
  }

  /** Work that is no training: it does not count as training time. */
  async #aside(work: () => Promise<unknown>): Promise<void> {
    const paused = performance.now();
    await work();
    this.#asideMs += performance.now() - paused;
  }
}
