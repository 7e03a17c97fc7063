/** A model's shape as GGUF metadata, under the keys that llama.cpp reads. */
import { QdoraError } from "../formats/error.js";
import type { GgufValue } from "../formats/gguf.js";
import type { Architecture, ModelType } from "../model/config.js";
import type { GgufType } from "./gguf_tensors.js";

/** llama.cpp knows Mistral as llama. */
const ARCHITECTURES: Readonly<Record<ModelType, string>> = {
  llama: "llama",
  mistral: "llama",
  qwen2: "qwen2",
  qwen3: "qwen3",
};

/** llama.cpp's numbers for "mostly" this type. */
const FILE_TYPES: Readonly<Record<GgufType, number>> = { f16: 1, q4_0: 2, q8_0: 7 };
const QUANTIZATION_VERSION = 2;

export const u32 = (value: number): GgufValue => ({ type: "u32", value });
export const f32 = (value: number): GgufValue => ({ type: "f32", value });
export const bool = (value: boolean): GgufValue => ({ type: "bool", value });
export const string = (value: string): GgufValue => ({ type: "string", value });

/** Positions up to which llama.cpp, which knows no sliding window for these models, computes the same. */
export function ggufContext(arch: Architecture): number {
  return Math.min(arch.maxPositions, ...arch.windows.filter((w) => w > 0));
}

/** @param folder for messages. @throws QdoraError for what llama.cpp does not compute */
function checkRepresentable(arch: Architecture, folder: string): void {
  const refuse = (fact: string): never => {
    throw new QdoraError(folder, `${fact}, which llama.cpp does not compute for ${arch.modelType} models`);
  };
  const isQwen = arch.modelType === "qwen2" || arch.modelType === "qwen3";
  if (arch.modelType === "qwen3" && arch.qkvBias) refuse("has attention biases");
  if (arch.rope.type === "llama3" && isQwen) refuse("has RoPE scaling of type llama3");
  if (arch.rope.type !== "yarn") return;
  const { betaFast, betaSlow, truncate, factor, attentionFactor } = arch.rope;
  const usual = factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1;
  if (betaFast !== 32 || betaSlow !== 1 || !truncate || Math.abs(attentionFactor - usual) > 1e-6)
    refuse("has YaRN with other betas, truncation or attention factor than usual");
}

function ropeScaling(arch: Architecture): readonly (readonly [string, GgufValue])[] {
  const { rope } = arch;
  switch (rope.type) {
    case "default":
    case "llama3":
      return [];
    case "linear":
      return [
        ["rope.scaling.type", string("linear")],
        ["rope.scaling.factor", f32(rope.factor)],
      ];
    case "yarn":
      return [
        ["rope.scaling.type", string("yarn")],
        ["rope.scaling.factor", f32(rope.factor)],
        ["rope.scaling.original_context_length", u32(rope.originalPositions)],
      ];
    default:
      throw new Error(`unknown rope ${String(rope satisfies never)}`);
  }
}

/**
 * @param name of the model, for people
 * @param folder for messages
 * @throws QdoraError for a model that llama.cpp would compute otherwise
 */
export function architectureMetadata(
  arch: Architecture,
  type: GgufType,
  name: string,
  folder: string,
): readonly (readonly [string, GgufValue])[] {
  checkRepresentable(arch, folder);
  const architecture = ARCHITECTURES[arch.modelType];
  const window = arch.windows.find((w) => w > 0);
  const own: readonly (readonly [string, GgufValue])[] = [
    ["block_count", u32(arch.layers)],
    ["context_length", u32(ggufContext(arch))],
    ["embedding_length", u32(arch.hidden)],
    ["feed_forward_length", u32(arch.feedForward)],
    ["vocab_size", u32(arch.vocab)],
    ["attention.head_count", u32(arch.heads)],
    ["attention.head_count_kv", u32(arch.kvHeads)],
    ["attention.key_length", u32(arch.headDim)],
    ["attention.value_length", u32(arch.headDim)],
    ["attention.layer_norm_rms_epsilon", f32(arch.normEps)],
    ...(window === undefined ? [] : [["attention.sliding_window", u32(window)] as const]),
    ["rope.dimension_count", u32(arch.headDim)],
    ["rope.freq_base", f32(arch.rope.theta)],
    ...ropeScaling(arch),
  ];
  return [
    ["general.architecture", string(architecture)],
    ["general.type", string("model")],
    ["general.name", string(name)],
    ["general.file_type", u32(FILE_TYPES[type])],
    ["general.quantization_version", u32(QUANTIZATION_VERSION)],
    ...own.map(([key, value]) => [`${architecture}.${key}`, value] as const),
  ];
}
