/** The checkpoints of one run: its lock on the output folder, what it goes on from, saving and making room. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Dataset } from "../data/dataset.js";
import { fingerprintData } from "../data/fingerprint.js";
import { QdoraError } from "../formats/error.js";
import { digestFile } from "../formats/hash.js";
import { ADAPTER_WEIGHTS } from "../formats/peft.js";
import { epochOf } from "./batches.js";
import { readCheckpoint, writeCheckpointFiles, type Fingerprints, type SavedRun } from "./checkpoint.js";
import {
  checkpointName,
  checkpointPath,
  listCheckpoints,
  pruneCheckpoints,
  removeCheckpoint,
  removeLeftovers,
  writeCheckpoint,
} from "./checkpoint_folder.js";
import { untilAborted } from "./interrupt.js";
import { lockFolder, type FolderLock } from "./lock.js";
import { CONFIG_FILE } from "./output.js";
import type { Position, Rollback } from "./position.js";
import type { PreparedRun } from "./prepare.js";
import { compareData, compareModel, compareSettings, findResumePoint, readWhole } from "./resume.js";
import type { TrainingSession } from "./session.js";
import type { TrainingSettings } from "./settings.js";

/** Small files of the model folder that shape a run. */
const MODEL_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

type FileFingerprints = Omit<Fingerprints, "model">;

async function fingerprintFiles(dataset: Dataset, model: string): Promise<FileFingerprints> {
  const data = fingerprintData(dataset);
  const present = MODEL_FILES.filter((name) => existsSync(join(model, name)));
  const digests = await Promise.all(
    present.map(async (name) => [name, (await digestFile(join(model, name))).sha256] as const),
  );
  return { data: data.train, held_out_data: data.heldOut, model_files: Object.fromEntries(digests) };
}

export class CheckpointStore {
  /** What the run goes on from. */
  readonly resumed: SavedRun | undefined;
  /** What a person should know before the run starts. */
  readonly notes: readonly string[];
  readonly #settings: TrainingSettings;
  #files: FileFingerprints | undefined;
  #newest: number | undefined;
  #lock: FolderLock | undefined;

  private constructor(
    settings: TrainingSettings,
    lock: FolderLock | undefined,
    resumed: SavedRun | undefined,
    notes: readonly string[],
  ) {
    this.#settings = settings;
    this.#lock = lock;
    this.resumed = resumed;
    this.notes = notes;
    this.#newest = resumed?.state.step;
  }

  /**
   * Takes the output folder for this run if there is one; with `resume` finds the checkpoint to go on from.
   * @throws QdoraError if another run has the folder, if it holds checkpoints that this run would lose, or if this run may not go on from them
   */
  static async open(settings: TrainingSettings, signal?: AbortSignal): Promise<CheckpointStore> {
    const { output_dir: out } = settings;
    const lock = existsSync(out) ? lockFolder(out) : undefined;
    try {
      await removeLeftovers(out);
      if (!settings.resume) return new CheckpointStore(settings, lock, undefined, await checkFresh(out));
      const { saved, notes } = await untilAborted(findResumePoint(out), signal);
      if (!saved) return new CheckpointStore(settings, lock, undefined, notes);
      return new CheckpointStore(settings, lock, saved, [...notes, ...compareSettings(saved, settings)]);
    } catch (error) {
      lock?.release();
      throw error;
    }
  }

  /** Makes the folder where there was none, once the run can really start: a refused one leaves nothing behind. @throws QdoraError as `open` */
  async claim(): Promise<void> {
    if (this.#lock) return;
    this.#lock = lockFolder(this.#settings.output_dir);
    // Another run may have come and gone meanwhile.
    await checkFresh(this.#settings.output_dir);
  }

  /** Notes the data of this run. @returns warnings @throws QdoraError if it is not what the checkpoint was trained on */
  async checkData(dataset: Dataset): Promise<readonly string[]> {
    this.#files = await fingerprintFiles(dataset, this.#settings.model);
    return this.resumed ? compareData(this.resumed, this.#files, this.#settings.data) : [];
  }

  /** @throws QdoraError if the weights just loaded are not those that the checkpoint was trained on */
  checkModel(fingerprint: string): void {
    if (this.resumed) compareModel(this.resumed, fingerprint, this.#settings.model);
  }

  /** The step of the newest checkpoint known to be good. */
  get newest(): number | undefined {
    return this.#newest;
  }

  /** Whether a checkpoint belongs after this step. */
  isDue(step: number, totalSteps: number): boolean {
    return step === totalSteps || this.#isRegular(step);
  }

  /** Whether save_steps alone asks for a checkpoint after this step: one that every run with these settings has, stopped and resumed or not. */
  #isRegular(step: number): boolean {
    const { save_steps: every } = this.#settings;
    return every !== undefined && step % every === 0;
  }

  /**
   * What a run goes back to after a loss spike: the newest regular checkpoint after which at least one step had a usual loss; where there is
   * none (a copied folder), the newest of any kind.
   * @param spike the step with the spike
   * @param before rollbacks until now; what they went back to was good
   * @throws QdoraError if no checkpoint is whole
   */
  async findRollbackPoint(spike: number, before: readonly Rollback[]): Promise<SavedRun> {
    const { output_dir: out } = this.#settings;
    const older = (await listCheckpoints(out)).filter((step) => step < spike);
    const isGood = (step: number): boolean => step < spike - 1 || before.some((r) => r.to === step);
    const best = [];
    for (const step of older) if (isGood(step) && (await this.#isRollbackPoint(step))) best.push(step);
    let reason = "there is none";
    for (const step of new Set([...best, ...older])) {
      try {
        return await readWhole(out, step);
      } catch (error) {
        if (!(error instanceof QdoraError)) throw error;
        reason = error.message;
      }
    }
    throw new QdoraError(
      "loss_spike_rollback",
      `no checkpoint in ${out} can be gone back to: ${reason}`,
      "look at the disk; start anew with another output_dir",
    );
  }

  /** Steps of the checkpoints after one, the newest first. */
  async stepsAfter(to: number): Promise<readonly number[]> {
    return (await listCheckpoints(this.#settings.output_dir)).filter((step) => step > to);
  }

  /** Removes the checkpoints after a step that the run has gone back to. */
  async removeAfter(to: number): Promise<void> {
    for (const step of await this.stepsAfter(to)) await removeCheckpoint(this.#settings.output_dir, step);
    this.#newest = to;
  }

  /** Saves the state, unless this step is saved already. @returns the checkpoint's path @throws QdoraError; older checkpoints stay */
  async save(run: PreparedRun, session: TrainingSession, position: Position): Promise<string> {
    const { output_dir: out, save_total_limit: limit } = this.#settings;
    if (this.#newest === position.step) return checkpointPath(out, position.step);
    if (!this.#files) throw new Error("checkData comes before save");
    const state = {
      ...position,
      epoch: epochOf(run, position.step, position.rollbacks),
      total_steps: run.totalSteps,
      seed: this.#settings.seed,
      gpu: session.executor.gpu.traits.name,
      half_products: run.storage.halfProducts,
      fingerprints: { model: session.modelFingerprint, ...this.#files },
    };
    try {
      const path = await writeCheckpoint(out, position.step, (folder) =>
        writeCheckpointFiles(folder, run, session, state, this.#settings),
      );
      this.#newest = position.step;
      if (limit !== undefined)
        await pruneCheckpoints(out, position.step, limit, await this.#sparedBefore(position.step));
      return path;
    } catch (error) {
      throw error instanceof QdoraError ? this.#explain(error) : error;
    }
  }

  /** Whether a checkpoint there is one that save_steps made. A run's last step has one even where it was not finite, which no longer run has. */
  async #isRollbackPoint(step: number): Promise<boolean> {
    if (!this.#isRegular(step)) return false;
    try {
      const { position } = await readCheckpoint(checkpointPath(this.#settings.output_dir, step));
      return position.skipped_in_a_row === 0;
    } catch (error) {
      if (error instanceof QdoraError) return false;
      throw error;
    }
  }

  /** A spike just after the newest checkpoint goes back to the regular one before it. */
  async #sparedBefore(newest: number): Promise<number | undefined> {
    const { loss_spike_rollback: deviations, output_dir: out } = this.#settings;
    if (deviations === undefined) return undefined;
    for (const step of await listCheckpoints(out))
      if (step < newest && (await this.#isRollbackPoint(step))) return step;
    return undefined;
  }

  /** The error, with what remains and what to do. */
  #explain(error: QdoraError): QdoraError {
    const kept =
      this.#newest === undefined
        ? "free some space, or name another output_dir"
        : `${checkpointName(this.#newest)} is kept: free some space, then go on with --resume`;
    return new QdoraError(error.area, error.message.slice(error.area.length + 2), kept, { cause: error });
  }

  /** Gives the folder free. */
  close(): void {
    this.#lock?.release();
  }
}

/** A new run may clear the folder of a finished one, whose adapter is its result; not the checkpoints of one that is to go on. */
async function checkFresh(out: string): Promise<readonly string[]> {
  const steps = (await listCheckpoints(out)).filter((step) => step > 0);
  const [newest] = steps;
  if (newest === undefined) return [];
  if (existsSync(join(out, CONFIG_FILE)) && existsSync(join(out, ADAPTER_WEIGHTS)))
    return [`output_dir: the finished run in ${out} gives way to this one (${steps.length} checkpoints)`];
  throw new QdoraError(
    "output_dir",
    `${out} holds ${checkpointName(newest)} of a run that did not finish`,
    "--resume goes on from it; to start anew name another output_dir, or delete its checkpoints",
    { exitCode: 2 },
  );
}
