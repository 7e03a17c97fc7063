/**
 * What a checkpoint holds, always under the same names: the adapter as PEFT writes it (so the folder is an adapter of its own), the
 * optimizer's moments, where the run stands, its settings, and which kernels it runs on.
 */
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { adapterToPeft } from "../adapter/peft.js";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { readJsonFile, readTextFile } from "../formats/json.js";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, writePeftAdapter } from "../formats/peft.js";
import { baseRecord } from "../model/base_record.js";
import type { VariantTable } from "../program/tuner.js";
import { CONFIG_FILE, peftConfig } from "./output.js";
import { positionSchema, type Position } from "./position.js";
import type { PreparedRun } from "./prepare.js";
import type { TrainingSession } from "./session.js";
import { saveMoments } from "./trained_state.js";

export const OPTIMIZER_FILE = "optimizer.safetensors";
const STATE_FILE = "trainer_state.json";
const VARIANTS_FILE = "kernel_variants.json";
export const CHECKPOINT_FILES = [
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  OPTIMIZER_FILE,
  STATE_FILE,
  VARIANTS_FILE,
  CONFIG_FILE,
] as const;

const MAX_JSON_BYTES = 16 << 20;

const stateSchema = z.strictObject({
  ...positionSchema.shape,
  /** Epochs done, as a real number; for people. */
  epoch: z.number(),
  total_steps: z.int().min(1),
  seed: z.int().min(0),
  /** The GPU that trained; another one rounds differently. */
  gpu: z.string(),
  /** Whether products may round to f16 on it; older checkpoints do not say. */
  half_products: z.boolean().optional(),
  fingerprints: z.strictObject({
    /** Over the weights as they were read. */
    model: z.string(),
    /** Of the data file, and of the held-out file where there is one. */
    data: z.string(),
    held_out_data: z.string().nullable(),
    /** Of small files that shape the run, by name. */
    model_files: z.record(z.string(), z.string()),
  }),
});

export type TrainerState = Readonly<z.infer<typeof stateSchema>>;
export type Fingerprints = TrainerState["fingerprints"];

export interface SavedRun {
  readonly folder: string;
  readonly state: TrainerState;
  readonly position: Position;
  /** Every key of the run that saved it, as YAML has them. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly variants: VariantTable;
}

/** Writes all files but the manifest into a folder. @param settings every key of the run */
export async function writeCheckpointFiles(
  folder: string,
  run: PreparedRun,
  session: TrainingSession,
  state: TrainerState,
  settings: object,
): Promise<void> {
  const json = (name: string, value: unknown): Promise<void> =>
    writeFileAtomic(join(folder, name), `${JSON.stringify(value, null, 1)}\n`);
  const tensors = adapterToPeft(run.layout, await session.adapter());
  await writePeftAdapter(folder, peftConfig(run), tensors, baseRecord(session.baseNorms));
  await saveMoments(session.memory, run.layout, join(folder, OPTIMIZER_FILE));
  await json(STATE_FILE, state);
  const variants = [...session.variants].toSorted(([a], [b]) => (a < b ? -1 : 1));
  await json(VARIANTS_FILE, Object.fromEntries(variants));
  const known = Object.entries(settings).map(([key, value]: [string, unknown]) => [key, value ?? null]);
  await writeFileAtomic(
    join(folder, CONFIG_FILE),
    stringify(Object.fromEntries(known), { aliasDuplicateObjects: false }),
  );
}

const variantsSchema = z.record(z.string(), z.string());
const settingsSchema = z.record(z.string(), z.unknown());

function checked<S extends z.ZodType>(schema: S, value: unknown, path: string): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new QdoraError(
    path,
    `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is not what it should be"}`,
  );
}

async function readYamlFile(path: string): Promise<unknown> {
  const text = await readTextFile(path, MAX_JSON_BYTES);
  try {
    return parse(text, { maxAliasCount: 0 });
  } catch (cause) {
    throw new QdoraError(path, "is not the YAML of a run", undefined, { cause });
  }
}

/** Reads what a verified checkpoint says; its tensors stay on the disk. @throws QdoraError naming file and field */
export async function readCheckpoint(folder: string): Promise<SavedRun> {
  const path = (name: string): string => join(folder, name);
  const state = checked(stateSchema, await readJsonFile(path(STATE_FILE), MAX_JSON_BYTES), path(STATE_FILE));
  const variants = checked(
    variantsSchema,
    await readJsonFile(path(VARIANTS_FILE), MAX_JSON_BYTES),
    path(VARIANTS_FILE),
  );
  return {
    folder,
    state,
    position: {
      step: state.step,
      tokens: state.tokens,
      skipped: state.skipped,
      skipped_in_a_row: state.skipped_in_a_row,
      evaluation_pending: state.evaluation_pending,
      rollbacks: state.rollbacks,
      recent_losses: state.recent_losses,
    },
    settings: checked(settingsSchema, await readYamlFile(path(CONFIG_FILE)), path(CONFIG_FILE)),
    variants: new Map(Object.entries(variants)),
  };
}
