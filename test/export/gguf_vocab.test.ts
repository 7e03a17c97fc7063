/** tokenizer.json as GGUF metadata: both kinds, and what has no form in it. */
import { describe, expect, it } from "vitest";
import { vocabMetadata } from "../../src/export/gguf_vocab.js";
import { BOS, tinyFolder, tinyTokenizer, VOCAB } from "../data/tiny_tokenizer.js";
import { expectRefusal, temporaryFolder } from "../formats/made_files.js";
import { putByteLevel, putSentencepiece } from "./made_tokenizer.js";

async function metadata(folder: string, vocab: number) {
  const entries = await vocabMetadata(folder, vocab);
  return new Map(entries.map(([key, value]) => [key.replace("tokenizer.", ""), value.value]));
}

const numbers = (value: unknown): number[] => [...(value as Int32Array)];

describe("vocabMetadata", () => {
  it("byte-level BPE: tokens, kinds, merges, ids; the rest of the vocabulary is unused", async () => {
    const folder = temporaryFolder();
    putByteLevel(folder);
    const found = await metadata(folder, VOCAB + 2);
    const tokens = found.get("ggml.tokens") as string[];
    expect(Object.fromEntries([...found].filter(([, value]) => typeof value !== "object"))).toEqual({
      "ggml.model": "gpt2",
      "ggml.pre": "qwen2",
      "ggml.bos_token_id": BOS,
      "ggml.eos_token_id": BOS + 2,
      "ggml.add_bos_token": true,
      "ggml.add_eos_token": false,
      chat_template: "{{ messages[0].content }}",
    });
    expect(tokens.length).toBe(VOCAB + 2);
    expect(tokens.slice(-5)).toEqual([
      "<|bos|>",
      "<|im_start|>",
      "<|im_end|>",
      `[PAD${VOCAB}]`,
      `[PAD${VOCAB + 1}]`,
    ]);
    expect(tokens[0x20]).toBe("Ġ");
    expect(numbers(found.get("ggml.token_type")).slice(-6)).toEqual([1, 3, 3, 3, 5, 5]);
    expect(found.get("ggml.merges")).toContain("hell o");
  });

  it("sentencepiece: bytes, control tokens, scores by rank, the space before a text", async () => {
    const folder = temporaryFolder();
    putSentencepiece(folder);
    const found = await metadata(folder, 300);
    const tokens = found.get("ggml.tokens") as string[];
    expect(Object.fromEntries([...found].filter(([, value]) => typeof value !== "object"))).toEqual({
      "ggml.model": "llama",
      "ggml.pre": "default",
      "ggml.bos_token_id": 1,
      "ggml.eos_token_id": 2,
      "ggml.unknown_token_id": 0,
      "ggml.add_space_prefix": true,
      "ggml.add_bos_token": true,
      "ggml.add_eos_token": false,
    });
    const kinds = numbers(found.get("ggml.token_type"));
    expect(kinds.slice(0, 4)).toEqual([2, 3, 3, 6]);
    expect(kinds.filter((kind) => kind === 6).length).toBe(256);
    const scores = numbers(found.get("ggml.scores"));
    const score = (text: string): number => scores[tokens.indexOf(text)]!;
    expect(score("▁t")).toBe(0);
    expect(score("▁t")).toBeGreaterThan(score("he"));
    expect(score("he")).toBeGreaterThan(score("▁the"));
    expect(score("▁the")).toBeGreaterThan(score("b"));
  });

  it("refuses what has no form in GGUF", async () => {
    const refused = async (options: Parameters<typeof tinyFolder>[0], fact: RegExp, vocab = VOCAB) =>
      expectRefusal(vocabMetadata(tinyFolder(options), vocab), "tokenizer.json", fact);
    const words = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
    await refused({}, /pre_tokenizer/);
    await refused({ preTokenizer: words }, /the id 200, the model's vocabulary ends at 200/, 200);
    const lower = { normalizer: { type: "Lowercase" } };
    const other = { model: { type: "WordPiece", vocab: { a: 0 }, unk_token: "a", merges: [] } };
    const base = tinyTokenizer({ preTokenizer: words });
    await refused({ files: { "tokenizer.json": { ...base, ...lower } } }, /normalizer "Lowercase"/);
    await refused({ files: { "tokenizer.json": { ...base, ...other } } }, /model type "WordPiece"/);
  });

  it("refuses tokens around a text that are neither BOS nor EOS", async () => {
    const folder = tinyFolder({
      preTokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
      addBos: true,
      tokenizerConfig: { bos_token: "<|im_start|>" },
    });
    await expectRefusal(vocabMetadata(folder, VOCAB), "tokenizer.json", /puts the tokens \[\d+\] around/);
  });
});
