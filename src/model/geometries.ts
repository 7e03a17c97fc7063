/** Shapes of well-known models, as their config.json says: for plans of models that are not here. */
import { architectureOf, type Architecture } from "./config.js";

const LLAMA2 = { model_type: "llama", vocab_size: 32000, rms_norm_eps: 1e-5, max_position_embeddings: 4096 };
const LLAMA31 = {
  model_type: "llama",
  vocab_size: 128256,
  rms_norm_eps: 1e-5,
  max_position_embeddings: 131072,
  rope_theta: 500000,
  rope_scaling: {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  },
};
const QWEN25 = {
  model_type: "qwen2",
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  max_position_embeddings: 32768,
};
const QWEN3 = {
  model_type: "qwen3",
  vocab_size: 151936,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  max_position_embeddings: 40960,
  head_dim: 128,
};

function shape(hidden: number, layers: number, heads: number, kvHeads: number, feedForward: number) {
  return {
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    intermediate_size: feedForward,
    tie_word_embeddings: false,
  };
}

const TIED = { tie_word_embeddings: true };

const CONFIGS: Readonly<Record<string, Record<string, unknown>>> = {
  "smollm2-135m": {
    ...LLAMA2,
    vocab_size: 49152,
    rope_theta: 100000,
    max_position_embeddings: 8192,
    ...shape(576, 30, 9, 3, 1536),
    ...TIED,
  },
  "llama-3.2-1b": { ...LLAMA31, ...shape(2048, 16, 32, 8, 8192), head_dim: 64, ...TIED },
  "llama-3.2-3b": { ...LLAMA31, ...shape(3072, 28, 24, 8, 8192), head_dim: 128, ...TIED },
  "llama-2-7b": { ...LLAMA2, ...shape(4096, 32, 32, 32, 11008) },
  "llama-2-13b": { ...LLAMA2, ...shape(5120, 40, 40, 40, 13824) },
  "llama-2-70b": { ...LLAMA2, ...shape(8192, 80, 64, 8, 28672) },
  "llama-3.1-8b": { ...LLAMA31, ...shape(4096, 32, 32, 8, 14336) },
  "llama-3.1-70b": { ...LLAMA31, ...shape(8192, 80, 64, 8, 28672) },
  "mistral-7b": {
    model_type: "mistral",
    vocab_size: 32768,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 32768,
    rope_theta: 1000000,
    sliding_window: null,
    ...shape(4096, 32, 32, 8, 14336),
  },
  "qwen2.5-0.5b": { ...QWEN25, vocab_size: 151936, ...shape(896, 24, 14, 2, 4864), ...TIED },
  "qwen2.5-1.5b": { ...QWEN25, vocab_size: 151936, ...shape(1536, 28, 12, 2, 8960), ...TIED },
  "qwen2.5-7b": { ...QWEN25, vocab_size: 152064, ...shape(3584, 28, 28, 4, 18944) },
  "qwen2.5-14b": { ...QWEN25, vocab_size: 152064, ...shape(5120, 48, 40, 8, 13824) },
  "qwen3-0.6b": { ...QWEN3, ...shape(1024, 28, 16, 8, 3072), ...TIED },
  "qwen3-4b": { ...QWEN3, ...shape(2560, 36, 32, 8, 9728), ...TIED },
  "qwen3-8b": { ...QWEN3, ...shape(4096, 36, 32, 8, 12288) },
};

export const GEOMETRIES: readonly string[] = Object.keys(CONFIGS);

/** What the config.json of such a model holds, for folders made without a download; undefined for a name that is not in the table. */
export const geometryConfig = (name: string): Readonly<Record<string, unknown>> | undefined =>
  Object.hasOwn(CONFIGS, name) ? CONFIGS[name] : undefined;

/** @throws QdoraError for a name that is not in the table */
export const geometry = (name: string): Architecture =>
  architectureOf(CONFIGS[name] ?? {}, `geometry ${name}`);
