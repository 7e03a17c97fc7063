/** `--resume`: which checkpoint to go on from, and whether this run may. */
import { QdoraError } from "../formats/error.js";
import { CHECKPOINT_FILES, readCheckpoint, type Fingerprints, type SavedRun } from "./checkpoint.js";
import { checkpointName, checkpointPath, listCheckpoints, verifyCheckpoint } from "./checkpoint_folder.js";

/** What the trained numbers mean: another value makes them another adapter, or no adapter at all. */
const FIXED = [
  "quant",
  "double_quant",
  "quant_head",
  "use_dora",
  "use_rslora",
  "rank",
  "alpha",
  "target_modules",
  "exclude_modules",
  "rank_pattern",
  "alpha_pattern",
  "optimizer",
];

/** Where files lie, how long and how often: nothing that the next step depends on, beyond the end of the schedule. */
const FREE = new Set([
  "model",
  "model_id",
  "revision",
  "data",
  "data_weights",
  "columns",
  "output_dir",
  "init_adapter",
  "max_steps",
  "epochs",
  "save_steps",
  "save_total_limit",
  "resume",
  "logging_steps",
  "eval_steps",
  "memory_limit",
  "checkpoint_place",
  "stream_layers",
  "layer_cache",
  "device",
  "tune",
  "dry_run",
]);

export interface ResumePoint {
  /** Undefined where there is no checkpoint at all. */
  readonly saved: SavedRun | undefined;
  /** What a person should know: which checkpoint, which were passed over and why. */
  readonly notes: readonly string[];
}

/** Reads a checkpoint whose files are all as they were written. @throws QdoraError saying what is wrong with it */
export async function readWhole(out: string, step: number): Promise<SavedRun> {
  await verifyCheckpoint(out, step, CHECKPOINT_FILES);
  const saved = await readCheckpoint(checkpointPath(out, step));
  if (saved.state.step !== step)
    throw new QdoraError(saved.folder, `its state is that of step ${saved.state.step}`);
  return saved;
}

/** The newest whole checkpoint of a folder. @throws QdoraError if there are some, but none is whole */
export async function findResumePoint(out: string): Promise<ResumePoint> {
  const steps = await listCheckpoints(out);
  const notes: string[] = [];
  for (const step of steps) {
    try {
      const saved = await readWhole(out, step);
      return { saved, notes: [...notes, `resume: going on from ${saved.folder}`] };
    } catch (error) {
      if (!(error instanceof QdoraError)) throw error;
      notes.push(`resume: ${checkpointName(step)} cannot be used: ${error.message}`);
    }
  }
  const [newest] = notes;
  if (newest === undefined)
    return { saved: undefined, notes: [`resume: no checkpoint in ${out}, starting from the beginning`] };
  throw new QdoraError(
    "resume",
    `none of the ${steps.length} checkpoints in ${out} is whole; the newest: ${newest.replace("resume: ", "")}`,
    "put a whole checkpoint there, or start anew with another output_dir",
  );
}

/** Settings in a form in which equal ones are equal texts; lists of modules have no order. */
const asText = (value: unknown): string =>
  JSON.stringify(Array.isArray(value) ? value.map(String).toSorted() : (value ?? null));

/**
 * Compares the settings of a checkpoint with those of this run.
 * @returns warnings, one for each changed key that changes what the next steps do
 * @throws QdoraError (exit 2) for a change that makes the trained numbers meaningless
 */
export function compareSettings(saved: SavedRun, settings: object): readonly string[] {
  const now = new Map(Object.entries(settings).map(([key, value]: [string, unknown]) => [key, value]));
  const name = checkpointName(saved.state.step);
  const warnings: string[] = [];
  for (const key of new Set([...FIXED, ...Object.keys(saved.settings), ...now.keys()])) {
    const [before, after] = [asText(saved.settings[key]), asText(now.get(key))];
    if (before === after || FREE.has(key)) continue;
    if (FIXED.includes(key))
      throw new QdoraError(
        "resume",
        `${key} is ${after}, ${name} was trained with ${before}`,
        `set ${key} as it was, or start anew with another output_dir`,
        { exitCode: 2 },
      );
    warnings.push(`warning: ${key} is ${after} now, was ${before} until ${name}`);
  }
  return warnings;
}

/**
 * @returns warnings for small files that changed
 * @throws QdoraError if the data is other data
 */
export function compareData(
  saved: SavedRun,
  now: Omit<Fingerprints, "model">,
  data: string | readonly string[],
): readonly string[] {
  const before = saved.state.fingerprints;
  const name = checkpointName(saved.state.step);
  if (before.data !== now.data)
    throw new QdoraError(
      "resume",
      `${[data].flat().join(", ")} has other bytes than the data that ${name} was trained on`,
      `give the same data again; for other data start anew with another output_dir and --init-adapter ${saved.folder}`,
    );
  const warnings =
    before.held_out_data === now.held_out_data
      ? []
      : [`warning: the held-out rows have changed since ${name}; evaluation losses cannot be compared`];
  const files = new Set([...Object.keys(before.model_files), ...Object.keys(now.model_files)]);
  for (const file of files)
    if (before.model_files[file] !== now.model_files[file])
      warnings.push(`warning: the model's ${file} has changed since ${name}`);
  return warnings;
}

/** @throws QdoraError if the weights are others */
export function compareModel(saved: SavedRun, fingerprint: string, model: string): void {
  if (saved.state.fingerprints.model === fingerprint) return;
  throw new QdoraError(
    "resume",
    `${model} has other weights than the model that ${checkpointName(saved.state.step)} was trained on`,
    "give the same model again, or start anew with another output_dir",
  );
}
