/** Everything about a run that needs no GPU: model shapes, data, adapter layout, programs and the exact memory plan. */
import { adapterLayout, type AdapterLayout } from "../adapter/layout.js";
import { adapterFromPeft } from "../adapter/peft.js";
import { checkedTargetModules, type AdapterSettings } from "../adapter/targets.js";
import { longestMicroBatchTokens, longestRowTokens } from "../data/batch.js";
import { loadDataset, type Dataset } from "../data/dataset.js";
import { stepsPerEpoch } from "../data/order.js";
import { loadTokenizer } from "../data/tokenizer.js";
import type { TokenizerTexts } from "../data/tokenizer_files.js";
import { openCheckpoint } from "../formats/checkpoint.js";
import { formatBytes } from "../formats/bytes.js";
import { QdoraError } from "../formats/error.js";
import { readPeftAdapter } from "../formats/peft.js";
import type { RemoteModel } from "../formats/remote_model.js";
import { readArchitecture, readRemoteArchitecture, type Architecture } from "../model/config.js";
import { checkModelHeaders, linearFormats, storedFormat } from "../model/load.js";
import { allModules } from "../model/modules.js";
import { fitMemory, memoryLimit, type PlannedRun, type RunShape } from "./memory.js";
import { MOMENT_BITS } from "./optimizer.js";
import type { TrainingSettings } from "./settings.js";

export interface PreparedRun extends Omit<PlannedRun, "settings"> {
  readonly settings: TrainingSettings;
  /** GPU bytes that may be used. */
  readonly limit: number | undefined;
  readonly shape: RunShape;
  readonly arch: Architecture;
  readonly dataset: Dataset;
  readonly layout: AdapterLayout;
  /** The most tokens one micro-batch has. */
  readonly capacity: number;
  readonly stepsPerEpoch: number;
  readonly totalSteps: number;
  readonly warmupSteps: number;
}

/** What a session needs to know of a run. */
export type SessionRun = Pick<
  PreparedRun,
  "settings" | "arch" | "layout" | "capacity" | keyof Omit<PlannedRun, "settings">
>;

/** The adapter part of the settings. */
export const adapterSettings = (s: TrainingSettings): AdapterSettings => ({
  useDora: s.use_dora,
  useRslora: s.use_rslora,
  rank: s.rank,
  alpha: s.alpha,
  targetModules: s.target_modules,
  excludeModules: s.exclude_modules,
  rankPattern: s.rank_pattern,
  alphaPattern: s.alpha_pattern,
});

/**
 * Reads model shapes and data, and plans the memory to the byte.
 * @param remote for plans of a model that is not on this disk; `settings.model` is its name then
 * @throws QdoraError for anything that cannot be trained
 */
export async function prepareRun(
  settings: TrainingSettings,
  signal?: AbortSignal,
  remote?: RemoteShapes,
): Promise<PreparedRun> {
  const limit = await memoryLimit(settings);
  const { arch, ...storage } = remote?.shapes ?? (await readModel(settings));
  const layout = layoutOf(arch, settings);
  // The session reads it when it needs it; a wrong one is refused before the model is loaded.
  const { init_adapter: initial } = settings;
  if (initial !== undefined) adapterFromPeft(layout, await readPeftAdapter(initial), initial);
  const tokenizer = await loadTokenizer(settings.model, remote?.texts).catch((error: unknown) => ({
    error,
  }));
  const usable = "error" in tokenizer ? undefined : tokenizer;
  const dataset = await loadDataset({
    data: settings.data,
    weights: settings.data_weights,
    columns: settings.columns,
    tokenizer: usable,
    tokenizerError: "error" in tokenizer ? tokenizer.error : undefined,
    vocabSize: arch.vocab,
    maxSeqLength: settings.max_seq_length,
    trainOnPrompt: settings.train_on_prompt,
    packing: settings.packing,
    valSize: settings.val_size,
    seed: settings.seed,
    signal,
  });
  const positions = longestRow(dataset);
  checkPositions(arch, positions);
  const perEpoch = stepsPerEpoch(
    dataset.units.length,
    settings.batch_size,
    settings.gradient_accumulation_steps,
  );
  const totalSteps = settings.max_steps ?? Math.max(1, Math.ceil(settings.epochs * perEpoch));
  const capacity = longestMicroBatchTokens(dataset, settings.batch_size);
  const shape: RunShape = {
    arch,
    ...storage,
    layout,
    capacity,
    positions,
    evaluates: dataset.validation.length > 0,
  };
  return {
    ...fitMemory(shape, settings, limit),
    limit,
    settings,
    shape,
    arch,
    dataset,
    layout,
    capacity,
    stepsPerEpoch: perEpoch,
    totalSteps,
    warmupSteps: settings.warmup_steps ?? Math.ceil(settings.warmup_ratio * totalSteps),
  };
}

/** @throws QdoraError when the plan does not fit the limit */
export function checkMemoryLimit(run: PreparedRun): void {
  const { limit } = run;
  if (limit === undefined || run.plan.totalBytes <= limit) return;
  throw new QdoraError(
    "memory_limit",
    `the plan needs ${formatBytes(run.plan.totalBytes)} on the GPU, ${formatBytes(run.plan.totalBytes - limit)} more than the limit of ${formatBytes(limit)}`,
    "`qdora plan` with the same keys lists what would make it fit",
  );
}

/** The adapters that the settings ask for. @throws QdoraError naming the key */
export function layoutOf(arch: Architecture, settings: TrainingSettings): AdapterLayout {
  const adapter = adapterSettings(settings);
  const targets = checkedTargetModules(allModules(arch), adapter);
  return adapterLayout(targets, adapter, (m) => m.layer, MOMENT_BITS[settings.optimizer]);
}

/** @throws QdoraError where rows are longer than the model's positions */
export function checkPositions(
  arch: Architecture,
  positions: number,
  fact = `the longest row has ${positions} tokens`,
): void {
  if (positions <= arch.maxPositions) return;
  throw new QdoraError(
    "max_seq_length",
    `${fact} (limit ${arch.maxPositions}, the positions of this model)`,
    `use --max-seq-length ${arch.maxPositions} or less`,
    { exitCode: 2 },
  );
}

/** Shapes of a model and how its weights are stored. */
export type ModelShapes = Pick<RunShape, "arch" | "linear" | "table" | "head">;

/** What is known of a model that is not on this disk. */
export interface RemoteShapes {
  readonly shapes: ModelShapes;
  /** Its tokenizer's files. */
  readonly texts: TokenizerTexts;
}

/** Shapes of the model in the folder `settings.model`, or of one elsewhere; all headers are checked. */
export async function readModel(settings: TrainingSettings, remote?: RemoteModel): Promise<ModelShapes> {
  // Elsewhere the headers cost more than the configuration.
  const known = remote && (await readRemoteArchitecture(remote));
  const checkpoint = await (remote ? remote.openCheckpoint() : openCheckpoint(settings.model));
  try {
    const arch = known ?? (await readArchitecture(settings.model));
    await checkModelHeaders(checkpoint, arch);
    const table = storedFormat(checkpoint, "model.embed_tokens.weight", [arch.vocab, arch.hidden]);
    return {
      arch,
      linear: await linearFormats(checkpoint, arch, settings.quant, settings.double_quant),
      table,
      head: arch.tied ? table : storedFormat(checkpoint, "lm_head.weight", [arch.vocab, arch.hidden]),
    };
  } finally {
    await checkpoint.close();
  }
}

const longestRow = (dataset: Dataset): number =>
  Math.max(1, longestRowTokens(dataset.train), longestRowTokens(dataset.validation));
