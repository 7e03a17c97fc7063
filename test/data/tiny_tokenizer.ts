/** A byte-level BPE tokenizer with a handful of merges, and a ChatML template, as a model folder for tests. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** GPT-2's printable stand-ins for bytes. */
function byteCharacters(): string[] {
  const printable = (b: number): boolean => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

const MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello", "Ċ Ċ", "a b", ": Ġ", "Ġ Ġ"];
const SPECIAL = ["<|bos|>", "<|im_start|>", "<|im_end|>"];

export const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

export interface TinyOptions {
  readonly chatTemplate?: unknown;
  /** Put <|bos|> before texts. */
  readonly addBos?: boolean;
  readonly preTokenizer?: unknown;
  readonly tokenizerConfig?: Readonly<Record<string, unknown>>;
  /** Other files of the folder. */
  readonly files?: Readonly<Record<string, unknown>>;
}

/** Ids: bytes 0-255, merges from 256, then <|bos|>, <|im_start|>, <|im_end|>. */
export const BOS = 256 + MERGES.length;
export const END = BOS + 2;
export const VOCAB = BOS + 3;

export function tinyTokenizer(options: TinyOptions = {}): Record<string, unknown> {
  const tokens = [...byteCharacters(), ...MERGES.map((merge) => merge.replace(" ", ""))];
  return {
    added_tokens: SPECIAL.map((content, i) => ({
      id: BOS + i,
      content,
      special: true,
      normalized: false,
      lstrip: false,
      rstrip: false,
      single_word: false,
    })),
    normalizer: null,
    pre_tokenizer: options.preTokenizer ?? {
      type: "ByteLevel",
      add_prefix_space: false,
      trim_offsets: true,
      use_regex: false,
    },
    post_processor: options.addBos
      ? {
          type: "TemplateProcessing",
          single: [{ SpecialToken: { id: "<|bos|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
          pair: [],
          special_tokens: {},
        }
      : null,
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges: MERGES },
  };
}

/** Writes a folder with tokenizer.json and tokenizer_config.json. @returns its path */
export function tinyFolder(options: TinyOptions = {}): string {
  const folder = mkdtempSync(join(tmpdir(), "qdora-tokenizer-"));
  const config = {
    bos_token: "<|bos|>",
    eos_token: { content: "<|im_end|>", __type: "AddedToken" },
    chat_template: options.chatTemplate,
    ...options.tokenizerConfig,
  };
  const files = {
    "tokenizer.json": tinyTokenizer(options),
    "tokenizer_config.json": config,
    ...options.files,
  };
  for (const [name, value] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof value === "string" ? value : JSON.stringify(value));
  }
  return folder;
}

/** Writes a data file. @returns its path */
export function dataFile(text: string | readonly unknown[], name = "rows.jsonl"): string {
  const path = join(mkdtempSync(join(tmpdir(), "qdora-data-")), name);
  writeFileSync(
    path,
    typeof text === "string" ? text : text.map((row) => `${JSON.stringify(row)}\n`).join(""),
  );
  return path;
}
