/**
 * How tokenizer.json splits a text before its merges -> the name under which llama.cpp has that way built in. It is told by
 * the expressions themselves and not by a model's name, so that fine-tuned and home-made tokenizers are found, too.
 */
import { isJson, type Json } from "../data/tokenizer_files.js";
import { QdoraError } from "../formats/error.js";

const CONTRACTIONS = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)`;
const TAIL = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const WORD = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`;
const CASED_LETTERS = [
  String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`,
  String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`,
] as const;
const [UPPER, LOWER] = CASED_LETTERS;

interface Known {
  /** What the parts of the pre-tokenizer do, in order. */
  readonly parts: readonly string[];
  /** Whether a whole word that is a token is taken without merging. llama.cpp ties it to the name. */
  readonly ignoreMerges: boolean;
  readonly name: string;
}

const KNOWN: readonly Known[] = [
  { parts: ["gpt2"], ignoreMerges: false, name: "gpt-2" },
  { parts: ["digits", "gpt2"], ignoreMerges: false, name: "smollm" },
  { parts: [`${CONTRACTIONS}|${WORD}|\\p{N}{1,3}|${TAIL}`, "bytes"], ignoreMerges: true, name: "llama-bpe" },
  { parts: [`${CONTRACTIONS}|${WORD}|\\p{N}{1,3}|${TAIL}`, "bytes"], ignoreMerges: false, name: "smaug-bpe" },
  { parts: [`${CONTRACTIONS}|${WORD}|\\p{N}|${TAIL}`, "bytes"], ignoreMerges: false, name: "qwen2" },
  {
    parts: [
      String.raw`[^\r\n\p{L}\p{N}]?${UPPER}*${LOWER}+|[^\r\n\p{L}\p{N}]?${UPPER}+${LOWER}*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
      "bytes",
    ],
    ignoreMerges: true,
    name: "tekken",
  },
];

/** One part in a word, or its expression; undefined for a kind that is not known. */
function partOf(part: Json): string | undefined {
  switch (part["type"]) {
    case "Digits":
      return part["individual_digits"] === true ? "digits" : undefined;
    case "ByteLevel":
      if (part["add_prefix_space"] === true) return undefined;
      return part["use_regex"] === false ? "bytes" : "gpt2";
    case "Split": {
      const { pattern } = part;
      const isIsolated = String(part["behavior"]).toLowerCase() === "isolated" && part["invert"] !== true;
      return isIsolated && isJson(pattern) && typeof pattern["Regex"] === "string"
        ? pattern["Regex"]
        : undefined;
    }
    default:
      return undefined;
  }
}

/**
 * @param pre `pre_tokenizer` of tokenizer.json
 * @param path tokenizer.json, for messages
 * @throws QdoraError for a way of splitting that llama.cpp does not have
 */
export function preTokenizerName(pre: unknown, ignoreMerges: boolean, path: string): string {
  const list: readonly unknown[] =
    isJson(pre) && pre["type"] === "Sequence" && Array.isArray(pre["pretokenizers"])
      ? pre["pretokenizers"]
      : [pre];
  const parts = list.map((part) => (isJson(part) ? partOf(part) : undefined));
  const found = KNOWN.find(
    (known) =>
      known.ignoreMerges === ignoreMerges &&
      known.parts.length === parts.length &&
      known.parts.every((part, i) => part === parts[i]),
  );
  if (found) return found.name;
  throw new QdoraError(
    path,
    "its pre_tokenizer splits in a way that has no name in GGUF here",
    `export knows the ways of ${KNOWN.map((known) => known.name).join(", ")}`,
  );
}
