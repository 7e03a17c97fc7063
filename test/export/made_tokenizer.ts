/** Small tokenizers of the two kinds that GGUF has, written into a model folder whose vocabulary they fit. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { BOS, tinyTokenizer } from "../data/tiny_tokenizer.js";

/** Byte-level BPE with Qwen2's way of splitting; <|bos|> is put before texts. */
export function putByteLevel(folder: string): void {
  const regex =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const preTokenizer = {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    ],
  };
  const tokenizer = tinyTokenizer({ preTokenizer, addBos: true });
  const special = { "<|bos|>": { id: "<|bos|>", ids: [BOS], tokens: ["<|bos|>"] } };
  put(folder, {
    ...tokenizer,
    normalizer: { type: "NFC" },
    post_processor: { ...(tokenizer["post_processor"] as object), special_tokens: special },
  });
  putConfig(folder, {
    bos_token: "<|bos|>",
    eos_token: "<|im_end|>",
    chat_template: "{{ messages[0].content }}",
  });
}

const SPECIAL = ["<unk>", "<s>", "</s>"];
const LETTERS = "▁abcdefghilmnoprstuw.,'".split("");
const MERGES = [
  "▁ t",
  "h e",
  "▁t he",
  "i n",
  "▁ a",
  "▁a n",
  "o n",
  "r e",
  "▁the r",
  "▁the re",
  "a t",
  "▁ in",
];

/** sentencepiece's BPE with byte fallback, as Llama 2 and Mistral have it. */
export function putSentencepiece(folder: string): void {
  const bytes = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`);
  const joined = [...new Set(MERGES.map((merge) => merge.replace(" ", "")))];
  const tokens = [...SPECIAL, ...bytes, ...joined, ...LETTERS];
  put(folder, {
    version: "1.0",
    added_tokens: SPECIAL.map((content, id) => ({
      id,
      content,
      special: true,
      normalized: false,
      lstrip: false,
      rstrip: false,
      single_word: false,
    })),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      unk_token: "<unk>",
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: MERGES,
    },
  });
  putConfig(folder, { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" });
}

const put = (folder: string, tokenizer: object): void =>
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
const putConfig = (folder: string, config: object): void =>
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(config));
