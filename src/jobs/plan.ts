/** The whole of `qdora plan` but for what it prints. Never loads the GPU. */
import { resolveFinetuneConfig, type FinetuneConfig } from "../config/resolve.js";
import { nearest } from "../config/suggest.js";
import { parseMemory } from "../config/values.js";
import { QdoraError } from "../formats/error.js";
import { TOKENIZER_TEXTS } from "../data/tokenizer_files.js";
import { modelFolderOrHeaders } from "../hub/model_folder.js";
import type { PullEvent, PullOptions } from "../hub/pull_options.js";
import { GEOMETRIES } from "../model/geometries.js";
import { planJson, type PlanReport } from "../report/plan.js";
import { planModel } from "../train/plan.js";
import { readModel, type RemoteShapes } from "../train/prepare.js";
import { readRates } from "../train/rates.js";
import { savings } from "../train/savings.js";
import type { FinetuneOptions } from "./finetune.js";
import { asStopped } from "./stopped.js";

/** The keys of `finetune`; `model`, or `geometry` for a model that is not here. With `data` the plan is that of the run. */
export type PlanOptions = Partial<FinetuneOptions> & {
  /** A known model, such as "llama-3.1-8b". */
  readonly geometry?: string | undefined;
  /** A card that is not here, in bytes or such as "6GB"; like memory_limit. */
  readonly gpu?: number | string | undefined;
};

export interface PlanListening {
  /** Told what is fetched of a model of the Hub: its headers, never its weights. */
  readonly onEvent?: ((event: PullEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What `qdora plan --json` prints. */
export type Plan = ReturnType<typeof planJson>;

/**
 * Plans the memory of a run to the byte, without a GPU.
 * @throws QdoraError; StoppedError when the signal stopped a download
 */
export async function plan(options: PlanOptions, { onEvent, signal }: PlanListening = {}): Promise<Plan> {
  const { geometry } = options;
  const named = await resolvePlan(options, undefined);
  const rates = await readRates();
  if (geometry !== undefined) return planJson(await planReport(named, geometry), rates);
  const listen = onEvent ?? (() => undefined);
  const { config, remote } = await asStopped(signal, () => plannedModel(named, { signal, listen }));
  return planJson(await planReport(config, undefined, remote), rates);
}

export interface PlannedModel {
  readonly config: FinetuneConfig;
  /** Undefined where `config.model` is a folder. */
  readonly remote?: RemoteShapes;
}

/**
 * A folder, or the snapshot in the cache; of a model of the Hub that is not there, its shapes and, where there is data to
 * count, its tokenizer. Weights are not fetched.
 * @throws QdoraError
 */
export async function plannedModel(
  named: FinetuneConfig,
  options: Pick<PullOptions, "signal" | "listen">,
): Promise<PlannedModel> {
  const { model: name, revision, data } = named;
  const found = await modelFolderOrHeaders(name, { revision, ...options });
  const config = { ...named, model_id: found.id };
  if ("path" in found) return { config: { ...config, model: found.path } };
  const shapes = await readModel(config, found.remote);
  const texts = new Map<string, string>();
  for (const file of data === "" ? [] : TOKENIZER_TEXTS) {
    const text = await found.remote.readText(file);
    if (text !== undefined) texts.set(file, text);
  }
  return { config, remote: { shapes, texts } };
}

/** Settings of a plan, which needs neither data nor output folder, and with a geometry no model. @throws QdoraError (exit 2) */
export async function resolvePlan(
  { geometry, gpu, ...keys }: Readonly<Record<string, unknown>> & Pick<PlanOptions, "geometry" | "gpu">,
  yamlPath: string | undefined,
): Promise<FinetuneConfig> {
  checkGeometry(geometry);
  for (const name of geometry === undefined ? [] : ["model", "data"]) {
    if (keys[name] === undefined) continue;
    throw new QdoraError(
      `--${name}`,
      "does not go with --geometry, which needs neither model nor data",
      `leave out --${name} or --geometry`,
      { exitCode: 2 },
    );
  }
  const size = gpuBytes(gpu);
  const model = geometry === undefined ? [] : (["model"] as const);
  return resolveFinetuneConfig({ ...keys, ...(size !== undefined && { memory_limit: size }) }, yamlPath, [
    "data",
    "output_dir",
    ...model,
  ]);
}

/**
 * @param geometry undefined: the plan is that of `config.model`
 * @param remote what is known of `config.model` where it is no folder
 */
export async function planReport(
  config: FinetuneConfig,
  geometry: string | undefined,
  remote?: RemoteShapes,
): Promise<PlanReport> {
  const { limit, shape, run } = await planModel(config, geometry, remote);
  return {
    name: geometry ?? config.model_id ?? config.model,
    config,
    shape,
    run,
    limit,
    savings: limit === undefined ? [] : savings(shape, config, run, limit),
  };
}

function checkGeometry(name: string | undefined): void {
  if (name === undefined || GEOMETRIES.includes(name)) return;
  const near = nearest(name, GEOMETRIES);
  throw new QdoraError(
    "--geometry",
    `no geometry is called "${name}"`,
    near === undefined ? `choose from ${GEOMETRIES.join(", ")}` : `did you mean ${near}?`,
    { exitCode: 2 },
  );
}

function gpuBytes(size: PlanOptions["gpu"]): number | undefined {
  if (size === undefined || typeof size === "number") return size;
  const bytes = parseMemory(size);
  if (bytes === undefined)
    throw new QdoraError("--gpu", `got "${size}", expected a size such as 6GB`, undefined, {
      exitCode: 2,
    });
  return bytes;
}
