/** A merged model's tensors under llama.cpp's names and in its types and row order. */
import { GGML_TYPES, type GgmlType, type GgufTensor } from "../formats/gguf.js";
import { f32ToF16 } from "../formats/floats.js";
import type { Architecture } from "../model/config.js";
import type { MergedModel, MergedTensor } from "../model/merged.js";
import { inverseFrequencies } from "../model/rope_table.js";
import { quantizeQ4_0, quantizeQ8_0 } from "../quant/ggml.js";
import { checkF16 } from "./float_bytes.js";

/** What `--gguf` names: the type of the linear weights. */
export type GgufType = "f16" | "q8_0" | "q4_0";

const WEIGHT_TYPES: Readonly<Record<GgufType, GgmlType>> = { f16: "F16", q8_0: "Q8_0", q4_0: "Q4_0" };
/** Four bits cost embedding and head more than they save: llama.cpp, too, keeps them larger. */
const TABLE_TYPES: Readonly<Record<GgufType, GgmlType>> = { f16: "F16", q8_0: "Q8_0", q4_0: "Q8_0" };

const GLOBAL_NAMES: ReadonlyMap<string, string> = new Map([
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["lm_head", "output"],
]);
const LAYER_NAMES: ReadonlyMap<string, string> = new Map([
  ["input_layernorm", "attn_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.o_proj", "attn_output"],
  ["self_attn.q_norm", "attn_q_norm"],
  ["self_attn.k_norm", "attn_k_norm"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
]);

/** `model.layers.3.self_attn.q_proj.weight` -> `blk.3.attn_q.weight`. */
export function ggufName(name: string): string {
  const [, path = "", part = ""] = /^(.*)\.(weight|bias)$/.exec(name) ?? [];
  const [, layer, inner = ""] = /^model\.layers\.(\d+)\.(.*)$/.exec(path) ?? [];
  const short = layer === undefined ? GLOBAL_NAMES.get(path) : LAYER_NAMES.get(inner);
  if (short === undefined) throw new Error(`no GGUF name for ${name}`);
  return layer === undefined ? `${short}.${part}` : `blk.${layer}.${short}.${part}`;
}

/** llama.cpp's llama rotates neighbouring dimensions, checkpoints of Hugging Face rotate halves: rows of q and k are reordered. */
const reorders = (arch: Architecture, name: string): boolean =>
  (arch.modelType === "llama" || arch.modelType === "mistral") && /\.[qk]_proj\.(weight|bias)$/.test(name);

/**
 * Rows of each head from (half, pair) to (pair, half).
 * @param values [heads * headDim, width]
 */
export function interleaveHalves(values: Float32Array, headDim: number, width: number): Float32Array {
  const out = new Float32Array(values.length);
  const half = headDim / 2;
  for (let row = 0; row * width < values.length; row++) {
    const [head, inner] = [Math.floor(row / headDim), row % headDim];
    const target = head * headDim + 2 * (inner % half) + Math.floor(inner / half);
    out.set(values.subarray(row * width, (row + 1) * width), target * width);
  }
  return out;
}

/** Vectors stay in f32; rows that are no whole blocks stay in f16, as in llama.cpp's converter. */
function typeOf(t: MergedTensor, wanted: GgufType): GgmlType {
  if (t.shape.length === 1) return "F32";
  const type = /^(model\.embed_tokens|lm_head)\./.test(t.name) ? TABLE_TYPES[wanted] : WEIGHT_TYPES[wanted];
  return (t.shape.at(-1) ?? 1) % GGML_TYPES[type].block === 0 ? type : "F16";
}

/** @throws QdoraError for a value that f16 cannot hold */
function encode(values: Float32Array, type: GgmlType, name: string): Uint8Array {
  switch (type) {
    case "F32":
      return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    case "F16":
      checkF16(values, name, "use --gguf q8_0");
      return new Uint8Array(f32ToF16(values).buffer);
    case "Q8_0":
      return quantizeQ8_0(values, f32ToF16);
    case "Q4_0":
      return quantizeQ4_0(values, f32ToF16);
    default:
      throw new Error(`unknown type ${String(type satisfies never)}`);
  }
}

/** What llama3's scaling divides each frequency by; llama.cpp reads it from a tensor. */
function ropeFactors(arch: Architecture): Float32Array {
  const plain = inverseFrequencies(
    { type: "default", theta: arch.rope.theta, attentionFactor: 1 },
    arch.headDim,
  );
  const scaled = inverseFrequencies(arch.rope, arch.headDim);
  return plain.map((v, i) => v / (scaled[i] ?? v));
}

/** All tensors of the file, in its order. */
export function ggufTensors(model: MergedModel, wanted: GgufType): readonly GgufTensor[] {
  const { arch } = model;
  const tensors = model.tensors.map((t): GgufTensor => {
    const type = typeOf(t, wanted);
    const isReordered = reorders(arch, t.name);
    const width = t.shape.length === 1 ? 1 : (t.shape.at(-1) ?? 1);
    return {
      name: ggufName(t.name),
      shape: t.shape,
      type,
      data: async function* () {
        for await (const values of t.pieces({ multiple: isReordered ? arch.headDim : 1 }))
          yield encode(isReordered ? interleaveHalves(values, arch.headDim, width) : values, type, t.name);
      },
    };
  });
  if (arch.rope.type !== "llama3") return tensors;
  const factors = ropeFactors(arch);
  return [
    ...tensors,
    {
      name: "rope_freqs.weight",
      shape: [factors.length],
      type: "F32",
      data: async function* () {
        yield await Promise.resolve(encode(factors, "F32", "rope_freqs"));
      },
    },
  ];
}
