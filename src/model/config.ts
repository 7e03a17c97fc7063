/** config.json of Llama, Mistral, Qwen2 and Qwen3 folders -> the architecture that programs are built from. */
import { join } from "node:path";
import { z } from "zod";
import { QdoraError } from "../formats/error.js";
import { parseJson, readJsonFile, shownJson } from "../formats/json.js";
import type { RemoteModel } from "../formats/remote_model.js";
import { inverseFrequencies, ropeParameters, type RopeParameters } from "./rope_table.js";

export type ModelType = "llama" | "mistral" | "qwen2" | "qwen3";

export interface Architecture {
  readonly modelType: ModelType;
  readonly vocab: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly feedForward: number;
  readonly normEps: number;
  /** lm_head is the embedding. */
  readonly tied: boolean;
  readonly qkvBias: boolean;
  readonly outBias: boolean;
  readonly mlpBias: boolean;
  /** RMSNorm over each head of q and k before RoPE (Qwen3). */
  readonly qkNorm: boolean;
  /** Tokens a layer may look back, itself included; 0 = all. One entry per layer. */
  readonly windows: readonly number[];
  readonly maxPositions: number;
  readonly rope: RopeParameters;
  /** `quantization_config` of a ready-made bitsandbytes checkpoint. */
  readonly quantized: boolean;
}

const count = z
  .number()
  .int()
  .min(1)
  .max(1 << 24);

const schema = z.looseObject({
  model_type: z.string(),
  vocab_size: count,
  hidden_size: count,
  num_hidden_layers: count.max(4096),
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  intermediate_size: count,
  rms_norm_eps: z.number().positive().default(1e-6),
  hidden_act: z.string().default("silu"),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  sliding_window: count.nullish(),
  use_sliding_window: z.boolean().default(false),
  max_window_layers: z.number().int().min(0).nullish(),
  layer_types: z.array(z.string()).nullish(),
  max_position_embeddings: count.nullish(),
  partial_rotary_factor: z.number().nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  quantization_config: z.looseObject({}).nullish(),
});

const TYPES: readonly string[] = ["llama", "mistral", "qwen2", "qwen3"] satisfies readonly ModelType[];

/** What transformers' config classes fill in for keys that are not there. */
const DEFAULTS: Readonly<
  Record<ModelType, { readonly kvHeads?: number; readonly positions: number; readonly window: number }>
> = {
  llama: { positions: 2048, window: 0 },
  mistral: { kvHeads: 8, positions: 131072, window: 4096 },
  qwen2: { kvHeads: 32, positions: 32768, window: 4096 },
  qwen3: { kvHeads: 32, positions: 32768, window: 4096 },
};

/** Reads and checks `config.json`. @throws QdoraError naming the file and the field. */
export async function readArchitecture(folder: string): Promise<Architecture> {
  const path = join(folder, "config.json");
  return architectureOf(await readJsonFile(path, 4 << 20), path);
}

/** The same for a model that is not on this disk. @throws QdoraError */
export async function readRemoteArchitecture(remote: RemoteModel): Promise<Architecture> {
  const path = join(remote.name, "config.json");
  const text = await remote.readText("config.json");
  if (text === undefined) throw new QdoraError(path, "does not exist", "choose a model with a config.json");
  return architectureOf(parseJson(text, path), path);
}

/**
 * Checks what a `config.json` says.
 * @param path what errors name
 * @throws QdoraError naming the field
 */
export function architectureOf(json: unknown, path: string): Architecture {
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new QdoraError(
      path,
      `${issue?.path.join(".") || "config"}: ${issue?.message}`,
      "is this a Hugging Face model folder?",
    );
  }
  return toArchitecture(parsed.data, path);
}

function toArchitecture(c: z.infer<typeof schema>, path: string): Architecture {
  const refuse = (field: string, got: unknown, limit: string): never => {
    throw new QdoraError(
      path,
      `${field}: got ${shownJson(got)} (supported: ${limit})`,
      "choose a Llama, Mistral, Qwen2 or Qwen3 type model",
    );
  };
  if (!TYPES.includes(c.model_type)) refuse("model_type", c.model_type, TYPES.join(", "));
  const modelType = c.model_type as ModelType;
  if (c.hidden_act !== "silu") refuse("hidden_act", c.hidden_act, "silu");
  if (c.partial_rotary_factor != null && c.partial_rotary_factor !== 1)
    refuse("partial_rotary_factor", c.partial_rotary_factor, "1");
  const heads = c.num_attention_heads;
  const defaults = DEFAULTS[modelType];
  const kvHeads =
    c.num_key_value_heads === undefined ? (defaults.kvHeads ?? heads) : (c.num_key_value_heads ?? heads);
  if (heads % kvHeads !== 0)
    refuse("num_key_value_heads", kvHeads, `a divisor of num_attention_heads ${heads}`);
  const headDim = c.head_dim ?? (modelType === "qwen3" ? 128 : c.hidden_size / heads);
  if (!Number.isInteger(headDim) || headDim % 2 !== 0 || headDim > 256)
    refuse("head_dim", headDim, "even, at most 256");
  if (c.hidden_size % 2 !== 0) refuse("hidden_size", c.hidden_size, "even");
  const maxPositions = c.max_position_embeddings ?? defaults.positions;
  // Mistral and Qwen2 do not read attention_bias.
  const hasBiasKey = modelType === "llama" || modelType === "qwen3";
  const method = c.quantization_config?.["quant_method"];
  if (c.quantization_config != null && method !== "bitsandbytes") {
    refuse("quantization_config.quant_method", method, "bitsandbytes");
  }
  const rope = ropeParameters({ ...c, max_position_embeddings: maxPositions }, path);
  if (![...inverseFrequencies(rope, headDim), rope.attentionFactor].every(Number.isFinite))
    throw new QdoraError(
      path,
      "rope_theta and its scaling give rotations that are not finite",
      "download config.json again",
    );
  return {
    modelType,
    vocab: c.vocab_size,
    hidden: c.hidden_size,
    layers: c.num_hidden_layers,
    heads,
    kvHeads,
    headDim,
    feedForward: c.intermediate_size,
    normEps: c.rms_norm_eps,
    tied: c.tie_word_embeddings,
    qkvBias: modelType === "qwen2" || (hasBiasKey && c.attention_bias),
    outBias: hasBiasKey && c.attention_bias,
    mlpBias: modelType === "llama" && c.mlp_bias,
    qkNorm: modelType === "qwen3",
    windows: windows(c, modelType),
    maxPositions,
    rope,
    quantized: c.quantization_config != null,
  };
}

/** Mistral slides in every layer; Qwen2 and Qwen3 only with use_sliding_window, in the layers that layer_types or max_window_layers name. */
function windows(c: z.infer<typeof schema>, modelType: ModelType): number[] {
  const window = (c.sliding_window === undefined ? DEFAULTS[modelType].window : c.sliding_window) ?? 0;
  return Array.from({ length: c.num_hidden_layers }, (_, i) => {
    switch (modelType) {
      case "llama":
        return 0;
      case "mistral":
        return window;
      case "qwen2":
      case "qwen3": {
        if (!c.use_sliding_window) return 0;
        const type = c.layer_types?.[i];
        const slides = type === undefined ? i >= (c.max_window_layers ?? 28) : type === "sliding_attention";
        return slides ? window : 0;
      }
      default:
        return modelType satisfies never;
    }
  });
}
