/**
 * tokenizer.json as GGUF metadata. Two kinds exist in llama.cpp for the models here: byte-level BPE ("gpt2": tokens, merges
 * and the name of a pre-tokenizer), and sentencepiece's BPE with byte fallback ("llama": tokens and scores).
 */
import { join } from "node:path";
import { loadTokenizer } from "../data/tokenizer.js";
import { isJson, readTokenizerFiles, type Json } from "../data/tokenizer_files.js";
import { QdoraError } from "../formats/error.js";
import type { GgufValue } from "../formats/gguf.js";
import { bool, string, u32 } from "./gguf_metadata.js";
import { preTokenizerName } from "./pre_tokenizer_name.js";

/** llama.cpp's kinds of tokens. */
const KIND = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

interface Tokens {
  readonly texts: string[];
  readonly kinds: Int32Array;
}

/** @throws QdoraError naming tokenizer.json for what llama.cpp has no form for */
export async function vocabMetadata(
  folder: string,
  vocabSize: number,
): Promise<readonly (readonly [string, GgufValue])[]> {
  const path = join(folder, "tokenizer.json");
  const files = await readTokenizerFiles(folder);
  const { tokenizer } = files;
  const model = isJson(tokenizer["model"]) ? tokenizer["model"] : {};
  if (model["type"] !== "BPE")
    throw new QdoraError(
      path,
      `the model type ${JSON.stringify(model["type"])} has no form in GGUF here`,
      "export works with BPE tokenizers",
    );
  const isByteFallback = model["byte_fallback"] === true;
  const tokens = tokensOf(tokenizer, model, vocabSize, path);
  const merges = mergesOf(model["merges"], path);
  const { prefixIds, suffixIds, bosTokenId, eosTokenId, specialTokens, chatTemplate } =
    await loadTokenizer(folder);
  const idOf = (role: string): number | undefined => {
    const text = specialTokens[role];
    const id = typeof text === "string" ? tokens.texts.indexOf(text) : -1;
    return id < 0 ? undefined : id;
  };
  const ids: readonly (readonly [string, number | undefined])[] = [
    ["bos_token_id", bosTokenId],
    ["eos_token_id", idOf("eos_token") ?? eosTokenId],
    ["unknown_token_id", idOf("unk_token")],
    ["padding_token_id", idOf("pad_token")],
  ];
  const around: readonly (readonly [string, readonly number[], number | undefined])[] = [
    ["add_bos_token", prefixIds, bosTokenId],
    ["add_eos_token", suffixIds, idOf("eos_token")],
  ];
  for (const [key, added, id] of around)
    if (added.length > 1 || (added.length === 1 && added[0] !== id))
      throw new QdoraError(
        path,
        `puts the tokens [${added.join(", ")}] around a text, which ${key} of GGUF cannot say`,
        "set the post_processor of tokenizer.json to add BOS or EOS only",
      );
  return [
    ...(isByteFallback
      ? spmMetadata(tokenizer, tokens, merges, path)
      : byteLevelMetadata(tokenizer, model, tokens, merges, path)),
    ["tokenizer.ggml.token_type", { type: "i32s", value: tokens.kinds }],
    ...ids.flatMap(([key, id]) => (id === undefined ? [] : [[`tokenizer.ggml.${key}`, u32(id)] as const])),
    ...around.map(([key, added]) => [`tokenizer.ggml.${key}`, bool(added.length > 0)] as const),
    ...(chatTemplate === undefined ? [] : [["tokenizer.chat_template", string(chatTemplate)] as const]),
  ];
}

/** Every id of the model's vocabulary has a token; ids without one are unused. */
function tokensOf(tokenizer: Json, model: Json, vocabSize: number, path: string): Tokens {
  const texts = Array.from({ length: vocabSize }, (_, id) => `[PAD${id}]`);
  const kinds = new Int32Array(vocabSize).fill(KIND.unused);
  const put = (id: number, text: string, kind: number): void => {
    if (id >= vocabSize)
      throw new QdoraError(
        path,
        `the token ${JSON.stringify(text.slice(0, 40))} has the id ${id}, the model's vocabulary ends at ${vocabSize}`,
        "use the tokenizer that the model was made with",
      );
    texts[id] = text;
    kinds[id] = kind;
  };
  const isByteFallback = model["byte_fallback"] === true;
  const vocab = isJson(model["vocab"]) ? model["vocab"] : {};
  for (const [text, id] of Object.entries(vocab)) {
    const isByte = isByteFallback && /^<0x[0-9A-F]{2}>$/.test(text);
    put(Number(id), text, isByte ? KIND.byte : text === model["unk_token"] ? KIND.unknown : KIND.normal);
  }
  const added: readonly unknown[] = Array.isArray(tokenizer["added_tokens"]) ? tokenizer["added_tokens"] : [];
  for (const token of added.filter(isJson)) {
    const text = String(token["content"]);
    const isUnknown = isByteFallback && text === model["unk_token"];
    put(
      Number(token["id"]),
      text,
      isUnknown ? KIND.unknown : token["special"] === true ? KIND.control : KIND.userDefined,
    );
  }
  return { texts, kinds };
}

/** Merges are texts "a b", or pairs [a, b] in newer files. */
function mergesOf(value: unknown, path: string): readonly (readonly [string, string])[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [];
  return list.map((merge) => {
    const pair: readonly unknown[] =
      typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    const [left, right] = pair;
    if (pair.length !== 2 || typeof left !== "string" || typeof right !== "string")
      throw new QdoraError(
        path,
        "`model.merges` holds something that is no pair",
        "download the model folder again",
      );
    return [left, right];
  });
}

function byteLevelMetadata(
  tokenizer: Json,
  model: Json,
  { texts }: Tokens,
  merges: readonly (readonly [string, string])[],
  path: string,
): readonly (readonly [string, GgufValue])[] {
  const normalizer = tokenizer["normalizer"];
  if (isJson(normalizer) && normalizer["type"] !== "NFC")
    throw new QdoraError(
      path,
      `its normalizer ${JSON.stringify(normalizer["type"])} has no form in GGUF`,
      "export works with tokenizers that llama.cpp knows",
    );
  return [
    ["tokenizer.ggml.model", string("gpt2")],
    [
      "tokenizer.ggml.pre",
      string(preTokenizerName(tokenizer["pre_tokenizer"], model["ignore_merges"] === true, path)),
    ],
    ["tokenizer.ggml.tokens", { type: "strings", value: texts }],
    ["tokenizer.ggml.merges", { type: "strings", value: merges.map((pair) => pair.join(" ")) }],
  ];
}

/** sentencepiece joins the pair whose joined token has the best score: the earlier its merge, the better. */
function spmMetadata(
  tokenizer: Json,
  { texts, kinds }: Tokens,
  merges: readonly (readonly [string, string])[],
  path: string,
): readonly (readonly [string, GgufValue])[] {
  const ranks = new Map<string, number>();
  for (const pair of merges) {
    const joined = pair.join("");
    if (!ranks.has(joined)) ranks.set(joined, ranks.size);
  }
  const scores = Float32Array.from(texts, (text, id) =>
    kinds[id] === KIND.normal ? 0 - (ranks.get(text) ?? ranks.size) : 0,
  );
  return [
    ["tokenizer.ggml.model", string("llama")],
    ["tokenizer.ggml.pre", string("default")],
    ["tokenizer.ggml.tokens", { type: "strings", value: texts }],
    ["tokenizer.ggml.scores", { type: "f32s", value: scores }],
    ["tokenizer.ggml.add_space_prefix", bool(addsSpace(tokenizer, path))],
  ];
}

/** Whether a space is put before a text: by a normalizer (Llama 2) or by Metaspace (newer files). */
function addsSpace(tokenizer: Json, path: string): boolean {
  const { normalizer, pre_tokenizer: pre } = tokenizer;
  const parts: readonly unknown[] = isJson(normalizer)
    ? Array.isArray(normalizer["normalizers"])
      ? normalizer["normalizers"]
      : [normalizer]
    : [];
  const types = parts.filter(isJson).map((part) => part["type"]);
  const odd = types.find((type) => type !== "Prepend" && type !== "Replace");
  const isMetaspace = isJson(pre) && pre["type"] === "Metaspace";
  if (odd !== undefined || (pre !== null && !isMetaspace))
    throw new QdoraError(
      path,
      `its ${odd === undefined ? "pre_tokenizer" : `normalizer ${JSON.stringify(odd)}`} has no form in GGUF`,
      "export works with tokenizers that llama.cpp knows",
    );
  return isMetaspace
    ? pre["prepend_scheme"] !== "never" && pre["add_prefix_space"] !== false
    : types.includes("Prepend");
}
