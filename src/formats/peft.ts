/** LoRA and DoRA adapters in the files of PEFT: `adapter_config.json` and `adapter_model.safetensors`. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { openCheckpointFile, readAsF32 } from "./checkpoint.js";
import { QdoraError } from "./error.js";
import { writeFileAtomic } from "./files.js";
import { readJsonFile } from "./json.js";
import { readSafetensorsHeader, writeSafetensors, type TensorEntry } from "./safetensors.js";
import { refuseUnfinished } from "./unfinished_run.js";

export const ADAPTER_CONFIG = "adapter_config.json";
export const ADAPTER_WEIGHTS = "adapter_model.safetensors";
const MAX_CONFIG_BYTES = 4 << 20;

const names = z.union([z.string(), z.array(z.string())]);
const numbers = (value: z.ZodType<number>) =>
  z
    .record(z.string(), value)
    .nullish()
    .transform((table) => table ?? {});
const flag = z
  .boolean()
  .nullish()
  .transform((on) => on ?? false);
const rank = z.int().min(1).max(65536);

const schema = z.looseObject({
  peft_type: z.literal("LORA"),
  task_type: z.string().nullish(),
  base_model_name_or_path: z.string().nullish(),
  revision: z.string().nullish(),
  r: rank,
  lora_alpha: z.number(),
  lora_dropout: z.number().default(0),
  bias: z.literal("none").default("none"),
  use_dora: flag,
  use_rslora: flag,
  target_modules: names,
  exclude_modules: names.nullish(),
  rank_pattern: numbers(rank),
  alpha_pattern: numbers(z.number()),
});

/** What adapter_config.json says, with PEFT's names; keys that qdora does not use are kept. */
export type PeftConfig = z.output<typeof schema>;

/** Keys that change the result of a forward pass in a way that qdora does not compute. */
const UNSUPPORTED = [
  "alora_invocation_tokens",
  "arrow_config",
  "fan_in_fan_out",
  "kasa_config",
  "layer_replication",
  "layers_to_transform",
  "lora_bias",
  "megatron_config",
  "modules_to_save",
  "monteclora_config",
  "target_parameters",
  "trainable_token_indices",
  "use_bdlora",
  "use_qalora",
];

/** Ways to initialise an adapter that leave the base as it is. Others (pissa, olora, corda, loftq) take a part out of its weights. */
const KEEPS_BASE = new Set<unknown>([undefined, null, true, false, "gaussian", "eva", "orthogonal"]);

/** All keys that PEFT 0.17 writes, with its defaults; later versions write more and do without them when they read. */
const DEFAULTS = {
  alpha_pattern: {},
  auto_mapping: null,
  base_model_name_or_path: null,
  bias: "none",
  corda_config: null,
  eva_config: null,
  exclude_modules: null,
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  loftq_config: {},
  lora_alpha: 8,
  lora_bias: false,
  lora_dropout: 0,
  megatron_config: null,
  megatron_core: "megatron.core",
  modules_to_save: null,
  peft_type: "LORA",
  qalora_group_size: 16,
  r: 8,
  rank_pattern: {},
  revision: null,
  target_modules: null,
  target_parameters: null,
  task_type: "CAUSAL_LM",
  trainable_token_indices: null,
  use_dora: false,
  use_qalora: false,
  use_rslora: false,
};

export interface PeftTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface PeftAdapter {
  readonly config: PeftConfig;
  /** By the keys of the file; see `adapterKey`. */
  readonly tensors: ReadonlyMap<string, PeftTensor>;
}

/** The key of a module's tensor in an adapter file. */
export function adapterKey(path: string, part: "lora_A" | "lora_B" | "magnitude"): string {
  return `base_model.model.${path}.${part === "magnitude" ? "lora_magnitude_vector" : `${part}.weight`}`;
}

const isSet = (value: unknown): boolean =>
  value !== undefined &&
  value !== null &&
  value !== false &&
  !(typeof value === "object" && Object.keys(value).length === 0);

/**
 * Reads and checks `adapter_config.json`.
 * @throws QdoraError naming the key for other methods than LoRA and DoRA, and for whatever would give wrong numbers silently
 */
export async function readPeftConfig(folder: string): Promise<PeftConfig> {
  const path = join(folder, ADAPTER_CONFIG);
  await refuseUnfinished(
    folder,
    ADAPTER_CONFIG,
    (checkpoint) => `give ${checkpoint}, which is an adapter too`,
  );
  const json = await readJsonFile(path, MAX_CONFIG_BYTES);
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new QdoraError(
      path,
      `${issue?.path.join(".") || "config"}: ${issue?.message}`,
      "qdora reads LoRA and DoRA adapters in PEFT's format",
    );
  }
  const unsupported = UNSUPPORTED.find((key) => isSet(parsed.data[key]));
  if (unsupported !== undefined)
    throw new QdoraError(
      path,
      `${unsupported}: got ${JSON.stringify(parsed.data[unsupported]).slice(0, 120)} (not supported)`,
      "use an adapter that was trained without it",
    );
  const { init_lora_weights: initial } = parsed.data;
  if (!KEEPS_BASE.has(initial))
    throw new QdoraError(
      path,
      `init_lora_weights: got ${JSON.stringify(initial).slice(0, 120)}, which changes the base model's weights (not supported)`,
      "convert it in Python: save_pretrained(folder, path_initial_model_for_weight_conversion=…)",
    );
  return parsed.data;
}

/** The path of the weights. @throws QdoraError if there are none, or only a pickle */
function weightsPath(folder: string): string {
  const path = join(folder, ADAPTER_WEIGHTS);
  if (!existsSync(path) && existsSync(join(folder, "adapter_model.bin")))
    throw new QdoraError(
      join(folder, "adapter_model.bin"),
      "is a pickle, which can run code and is never opened",
      "save the adapter again in Python with save_pretrained(folder, safe_serialization=True)",
    );
  return path;
}

/** The tensors of an adapter by name, without their data. @throws QdoraError naming the file */
export async function adapterTensorHeaders(folder: string): Promise<ReadonlyMap<string, TensorEntry>> {
  return (await readSafetensorsHeader(weightsPath(folder))).tensors;
}

/** What the header of an adapter's weights says beside its tensors. @throws QdoraError naming the file */
export async function adapterMetadata(folder: string): Promise<Readonly<Record<string, string>>> {
  return (await readSafetensorsHeader(weightsPath(folder))).metadata;
}

/** Reads a whole adapter, widened to f32. @throws QdoraError naming file and key, also for NaN and infinity */
export async function readPeftAdapter(folder: string): Promise<PeftAdapter> {
  const config = await readPeftConfig(folder);
  const file = await openCheckpointFile(weightsPath(folder));
  try {
    const tensors = new Map<string, PeftTensor>();
    for (const [name, entry] of file.tensors) {
      const data = await readAsF32(file, entry);
      const bad = data.findIndex((v) => !Number.isFinite(v));
      if (bad >= 0)
        throw new QdoraError(
          entry.file,
          `${name} holds ${data[bad]} at index ${bad}`,
          "the adapter was saved broken; use another one",
        );
      tensors.set(name, { shape: entry.shape, data });
    }
    return { config, tensors };
  } finally {
    await file.close();
  }
}

/**
 * Writes `adapter_config.json`, then the weights in f32; the folder must exist. Each file appears whole or not at all.
 * Keys are sorted as PEFT does, but patterns keep their order, because the first that fits wins.
 * @param config keys that it does not have get PEFT's defaults
 * @param record further metadata of the weights, which PEFT passes over
 * @throws QdoraError if a file cannot be written
 */
export async function writePeftAdapter(
  folder: string,
  config: PeftConfig,
  tensors: ReadonlyMap<string, PeftTensor>,
  record: Readonly<Record<string, string>> = {},
): Promise<void> {
  const given = Object.entries(config).filter(([, value]) => value !== undefined);
  const all: Record<string, unknown> = { ...DEFAULTS, ...Object.fromEntries(given) };
  const sorted = Object.fromEntries(
    Object.keys(all)
      .toSorted()
      .map((key) => [key, all[key]]),
  );
  await writeFileAtomic(join(folder, ADAPTER_CONFIG), JSON.stringify(sorted, null, 2));
  const entries = [...tensors].map(
    ([name, { shape, data }]) => [name, { dtype: "F32", shape, data }] as const,
  );
  await writeSafetensors(join(folder, ADAPTER_WEIGHTS), new Map(entries), { ...record, format: "pt" });
}
