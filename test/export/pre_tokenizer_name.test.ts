/** Pre-tokenizers of published models under the names that llama.cpp knows them by; others are refused. */
import { describe, expect, it } from "vitest";
import { preTokenizerName } from "../../src/export/pre_tokenizer_name.js";

const BYTES = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
const WORDS = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
const split = (regex: string) => ({
  type: "Split",
  pattern: { Regex: regex },
  behavior: "Isolated",
  invert: false,
});
const sequence = (...pretokenizers: object[]) => ({ type: "Sequence", pretokenizers });

/** As the tokenizer.json of each model has it. */
const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QWEN2 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const TEKKEN =
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

describe("preTokenizerName", () => {
  for (const [model, pre, ignoreMerges, name] of [
    ["GPT-2", WORDS, false, "gpt-2"],
    ["SmolLM2", sequence({ type: "Digits", individual_digits: true }, WORDS), false, "smollm"],
    ["Llama 3", sequence(split(LLAMA3), BYTES), true, "llama-bpe"],
    ["Llama 3's expression, merging whole words", sequence(split(LLAMA3), BYTES), false, "smaug-bpe"],
    ["Qwen2 and Qwen3", sequence(split(QWEN2), BYTES), false, "qwen2"],
    ["Mistral Nemo", sequence(split(TEKKEN), BYTES), true, "tekken"],
  ] as const) {
    it(`${model}: ${name}`, () => {
      expect(preTokenizerName(pre, ignoreMerges, "tokenizer.json")).toBe(name);
    });
  }

  for (const [what, pre] of [
    ["an expression of its own", sequence(split("\\d+"), BYTES)],
    ["digits in groups", sequence({ type: "Digits", individual_digits: false }, WORDS)],
    ["a space put before texts", { ...WORDS, add_prefix_space: true }],
    ["another way to split", sequence({ ...split(LLAMA3), behavior: "MergedWithNext" }, BYTES)],
    ["whitespace", { type: "Whitespace" }],
    ["none", null],
  ] as const) {
    it(`refuses ${what}`, () => {
      expect(() => preTokenizerName(pre, false, "tokenizer.json")).toThrow(
        /tokenizer\.json: its pre_tokenizer/,
      );
    });
  }

  it("refuses a way of merging that does not go with the name", () => {
    expect(() => preTokenizerName(WORDS, true, "tokenizer.json")).toThrow(/pre_tokenizer/);
  });
});
