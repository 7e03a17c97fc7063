/** Opt-in (QDORA_LLAMA_CPP, see llama_cpp.ts): llama.cpp loads our GGUF files, cuts texts into our tokens, and goes on with our greedy tokens. */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/data/tokenizer.js";
import { exportGguf } from "../../src/export/gguf_file.js";
import { openCheckpoint, readAsF32 } from "../../src/formats/checkpoint.js";
import { f32ToF16 } from "../../src/formats/floats.js";
import { writeSafetensors, type TensorToWrite } from "../../src/formats/safetensors.js";
import { Generator } from "../../src/generate/generator.js";
import { argmax } from "../../src/generate/sample.js";
import { putByteLevel, putSentencepiece } from "../export/made_tokenizer.js";
import { FIXTURES } from "../fixture_files.js";
import { temporaryFolder } from "../formats/made_files.js";
import { continueByLlamaCpp, LLAMA_CPP, type Continued } from "./llama_cpp.js";
import { TINY } from "./qdora.js";

const TEXTS = [
  "the rain on the hat",
  "It's 12345 o'clock, isn't it?  Well\n\n hello…",
  "A longer text, so that the positions reach further: the cat in the hat sat on the mat near the tin.",
];
const COUNT = 12;

/** llama.cpp rounds activations to f16 in products, which moves these logits by some thousandths: a choice nearer than this may go either way. */
const CLEAR_LEAD = 0.01;

interface Expected extends Continued {
  /** How many of the ids come before the first choice without a clear lead. */
  readonly clear: number;
}

/** How far the likeliest token is before the next. */
function leadOf(logits: Float32Array): number {
  const [first = 0, second = 0] = logits.toSorted((a, b) => b - a);
  return first - second;
}

/** The same prompts in tokens, and the same new tokens as long as the choice is clear; most must be. */
function expectSame(got: readonly Continued[], want: readonly Expected[]): void {
  const cut = (all: readonly Continued[]) =>
    all.map(({ prompt, ids }, i) => ({ prompt, ids: ids.slice(0, want[i]!.clear) }));
  expect(cut(got)).toEqual(cut(want));
  const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
  expect(sum(want.map((one) => one.clear))).toBeGreaterThan(0.5 * sum(want.map((one) => one.ids.length)));
}

async function continueByQdora(model: string, texts: readonly string[]): Promise<readonly Expected[]> {
  const tokenizer = await loadTokenizer(model);
  const how = { quant: "none", doubleQuant: false, context: 256 } as const;
  const generator = await Generator.open({ model, ...how });
  const results: Expected[] = [];
  for (const text of texts) {
    generator.reset();
    const prompt = tokenizer.encode(text);
    const ids: number[] = [];
    let logits = await generator.feed(prompt);
    let clear: number | undefined;
    while (ids.length < COUNT) {
      const id = argmax(logits);
      if (leadOf(logits) < CLEAR_LEAD) clear ??= ids.length;
      ids.push(id);
      if (tokenizer.eosTokenIds.includes(id)) break;
      logits = await generator.feed([id]);
    }
    results.push({ prompt, ids, clear: clear ?? ids.length });
  }
  await generator.close();
  return results;
}

/** Rounds all weights to f16, which is what the file of type f16 holds. */
async function roundToF16(folder: string): Promise<void> {
  const checkpoint = await openCheckpoint(folder);
  const tensors = new Map<string, TensorToWrite>();
  for (const entry of checkpoint.tensors.values()) {
    const data = f32ToF16(await readAsF32(checkpoint, entry));
    tensors.set(entry.name, { dtype: "F16", shape: entry.shape, data });
  }
  await checkpoint.close();
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
}

/** A copy of a tiny golden model in f16, with a tokenizer and with changes to its config.json. */
async function withTokenizer(
  name: string,
  putTokenizer: (folder: string) => void,
  change: object = {},
): Promise<string> {
  const folder = temporaryFolder();
  cpSync(join(FIXTURES, "models", name), folder, { recursive: true });
  const path = join(folder, "config.json");
  const { rope_parameters: _, ...config } = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  const rope = { rope_theta: name.startsWith("qwen") ? 1e6 : 1e4 };
  writeFileSync(path, JSON.stringify({ ...config, ...rope, ...change }));
  putTokenizer(folder);
  await roundToF16(folder);
  return folder;
}

const LLAMA3 = {
  rope_type: "llama3",
  factor: 4,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 32,
};
const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32 };

describe.skipIf(LLAMA_CPP === undefined)("llama.cpp runs what export writes", () => {
  for (const [what, name, putTokenizer, change] of [
    ["llama, sentencepiece", "llama", putSentencepiece, {}],
    ["llama, llama3's RoPE", "llama", putByteLevel, { rope_scaling: LLAMA3 }],
    ["llama, linear RoPE", "llama", putByteLevel, { rope_scaling: { rope_type: "linear", factor: 2 } }],
    ["mistral, sentencepiece", "mistral", putSentencepiece, { sliding_window: null }],
    ["qwen2, biases", "qwen2", putByteLevel, {}],
    ["qwen2, YaRN", "qwen2", putByteLevel, { rope_scaling: YARN }],
    ["qwen3, norms of q and k", "qwen3", putByteLevel, {}],
  ] as const) {
    it(`${what}: the same tokens`, async () => {
      const model = await withTokenizer(name, putTokenizer, change);
      const output = join(temporaryFolder(), "m.gguf");
      await exportGguf({ model, base: { kind: "stored" }, output, type: "f16", overwrite: false });
      expectSame(continueByLlamaCpp(output, COUNT, TEXTS), await continueByQdora(model, TEXTS));
    });
  }

  it("the tiny model; q8_0 begins alike, q4_0 loads", async () => {
    const want = await continueByQdora(TINY, TEXTS);
    const folder = temporaryFolder();
    const write = async (type: "f16" | "q8_0" | "q4_0") => {
      const output = join(folder, `${type}.gguf`);
      await exportGguf({ model: TINY, base: { kind: "stored" }, output, type, overwrite: false });
      return continueByLlamaCpp(output, COUNT, TEXTS);
    };
    expectSame(await write("f16"), want);
    const first = (all: readonly Continued[]) => all.map((one) => [one.prompt, one.ids[0]]);
    expect(first(await write("q8_0"))).toEqual(first(want));
    expect((await write("q4_0")).map((one) => one.prompt)).toEqual(want.map((one) => one.prompt));
  });
});
