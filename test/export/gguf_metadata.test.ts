/** Shapes as llama.cpp reads them, and models that it would compute otherwise. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { architectureMetadata } from "../../src/export/gguf_metadata.js";
import { readArchitecture, type Architecture } from "../../src/model/config.js";
import { FIXTURES } from "../fixture_files.js";

const read = (name: string): Promise<Architecture> => readArchitecture(join(FIXTURES, "models", name));
const metadata = (arch: Architecture) =>
  Object.fromEntries(
    architectureMetadata(arch, "q8_0", "name", "folder").map(([key, value]) => [key, value.value]),
  );

describe("architectureMetadata", () => {
  it("qwen3", async () => {
    expect(metadata(await read("qwen3"))).toEqual({
      "general.architecture": "qwen3",
      "general.type": "model",
      "general.name": "name",
      "general.file_type": 7,
      "general.quantization_version": 2,
      "qwen3.block_count": 3,
      "qwen3.context_length": 512,
      "qwen3.embedding_length": 64,
      "qwen3.feed_forward_length": 128,
      "qwen3.vocab_size": 352,
      "qwen3.attention.head_count": 4,
      "qwen3.attention.head_count_kv": 2,
      "qwen3.attention.key_length": 32,
      "qwen3.attention.value_length": 32,
      "qwen3.attention.layer_norm_rms_epsilon": 1e-6,
      "qwen3.rope.dimension_count": 32,
      "qwen3.rope.freq_base": 1000000,
    });
  });

  it("mistral is llama, and its context is where a sliding window changes nothing", async () => {
    expect(metadata(await read("mistral"))).toMatchObject({
      "general.architecture": "llama",
      "llama.context_length": 8,
      "llama.attention.sliding_window": 8,
    });
  });

  const yarn = {
    type: "yarn",
    theta: 10000,
    factor: 4,
    attentionFactor: 0.1 * Math.log(4) + 1,
    betaFast: 32,
    betaSlow: 1,
    truncate: true,
    originalPositions: 128,
  } as const;

  it("RoPE scaling", async () => {
    const arch = await read("qwen2");
    expect(
      metadata({ ...arch, rope: { type: "linear", theta: 10000, attentionFactor: 1, factor: 2 } }),
    ).toMatchObject({ "qwen2.rope.scaling.type": "linear", "qwen2.rope.scaling.factor": 2 });
    expect(metadata({ ...arch, rope: yarn })).toMatchObject({
      "qwen2.rope.scaling.type": "yarn",
      "qwen2.rope.scaling.factor": 4,
      "qwen2.rope.scaling.original_context_length": 128,
    });
  });

  it("refuses what llama.cpp would compute otherwise", async () => {
    const [qwen2, qwen3] = [await read("qwen2"), await read("qwen3")];
    expect(() => metadata({ ...qwen2, rope: { ...yarn, betaFast: 16 } })).toThrow(/YaRN/);
    expect(() => metadata({ ...qwen2, rope: { ...yarn, attentionFactor: 1 } })).toThrow(/YaRN/);
    expect(() => metadata({ ...qwen3, qkvBias: true })).toThrow(/attention biases/);
    const llama3 = {
      type: "llama3",
      theta: 10000,
      attentionFactor: 1,
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalPositions: 64,
    } as const;
    expect(() => metadata({ ...qwen3, rope: llama3 })).toThrow(/llama3/);
  });
});
