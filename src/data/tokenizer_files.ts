/** Reads the tokenizer's part of a model folder: tokenizer.json and the configuration files around it. Everything is checked by shape. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { shownJson } from "../formats/json.js";

export type Json = Readonly<Record<string, unknown>>;

/** Special tokens by role (bos_token, …), each as its text; additional_special_tokens is a list of texts. */
export type SpecialTokens = Readonly<Record<string, string | readonly string[]>>;

export interface TokenizerFiles {
  /** tokenizer.json, with the parts that it may leave out. */
  readonly tokenizer: Json;
  /** tokenizer_config.json with special tokens as plain texts. */
  readonly config: Json;
  readonly specialTokens: SpecialTokens;
  readonly chatTemplate: string | undefined;
  /** End-of-sequence ids of generation_config.json and config.json. */
  readonly eosIds: readonly number[];
}

/** Texts of files by their names. */
export type TokenizerTexts = ReadonlyMap<string, string>;

/** What a tokenizer is read from; most models lack some of them. */
export const TOKENIZER_TEXTS = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "generation_config.json",
  "config.json",
  "chat_template.jinja",
] as const;

const MAX_BYTES = 256 * 1024 * 1024;
/** Far above any vocabulary; ids become array indices. */
const MAX_ID = 1 << 24;
const MODELS = new Set(["BPE", "Unigram", "WordPiece"]);
const ROLES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

export const isJson = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

async function readText(folder: string, name: string): Promise<string | undefined> {
  const path = join(folder, name);
  const found = await stat(path).catch(() => undefined);
  if (!found) return undefined;
  if (!found.isFile()) throw new QdoraError(path, "is not a file", "download the model folder again");
  if (found.size > MAX_BYTES)
    throw new QdoraError(
      path,
      `is too large, got ${found.size} bytes (limit ${MAX_BYTES})`,
      "download the model folder again",
    );
  return readFile(path, "utf8");
}

async function readJson(
  folder: string,
  name: string,
  read: (name: string) => Promise<string | undefined>,
): Promise<Json | undefined> {
  const text = await read(name);
  if (text === undefined) return undefined;
  const path = join(folder, name);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new QdoraError(path, "is not valid JSON", "download the model folder again", { cause: error });
  }
  if (!isJson(value)) throw new QdoraError(path, "is not a JSON object", "download the model folder again");
  return value;
}

/** A special token is written as its text or as an object with `content`. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return isJson(value) && typeof value["content"] === "string" ? value["content"] : undefined;
}

function specialTokensOf(sources: readonly Json[]): SpecialTokens {
  const found: Record<string, string | readonly string[]> = {};
  for (const source of sources) {
    for (const role of ROLES) {
      const text = tokenText(source[role]);
      if (text !== undefined && text !== "") found[role] = text;
    }
    const more = source["additional_special_tokens"];
    if (Array.isArray(more))
      found["additional_special_tokens"] = more.flatMap((token) => tokenText(token) ?? []);
  }
  return found;
}

/** A template as text, or a list of named ones of which "default" is taken. */
function templateOf(value: unknown, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return value;
  if (Array.isArray(value)) {
    const named = value.filter(isJson);
    const chosen =
      named.find((one) => one["name"] === "default") ?? (named.length === 1 ? named[0] : undefined);
    if (typeof chosen?.["template"] === "string") return chosen["template"];
  }
  throw new QdoraError(
    path,
    "chat_template is neither a text nor a list with a `default` template",
    "put the template into chat_template.jinja",
  );
}

function idsOf(value: unknown): readonly number[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  return list.filter((id): id is number => Number.isInteger(id) && Number(id) >= 0 && Number(id) < MAX_ID);
}

/** Ids index arrays later: they must be small integers. */
function checkIds(tokenizer: Json, path: string): void {
  const wrong = (what: string): never => {
    throw new QdoraError(path, what, "download the model folder again");
  };
  const check = (id: unknown, name: string): void => {
    if (!Number.isInteger(id) || Number(id) < 0 || Number(id) >= MAX_ID)
      wrong(`token ${JSON.stringify(name.slice(0, 40))} has the id ${shownJson(id)}`);
  };
  const { model, added_tokens: added } = tokenizer;
  if (!isJson(model)) return wrong("has no `model`");
  if (!Array.isArray(added)) return wrong("`added_tokens` is not a list");
  const { vocab, type } = model;
  if (typeof type !== "string" || !MODELS.has(type))
    return wrong(`the model type ${shownJson(type)} is not known`);
  if (isJson(vocab)) for (const [name, id] of Object.entries(vocab)) check(id, name);
  else if (!Array.isArray(vocab)) wrong("`model.vocab` is missing");
  for (const token of added) {
    if (!isJson(token) || typeof token["content"] !== "string" || token["content"] === "")
      wrong("`added_tokens` holds something that is no token");
    else check(token["id"], token["content"]);
  }
}

/**
 * @param texts of a model whose files are not on this disk; `folder` is its name then
 * @throws QdoraError for files that are missing or broken
 */
export async function readTokenizerFiles(folder: string, texts?: TokenizerTexts): Promise<TokenizerFiles> {
  const read = async (name: string): Promise<string | undefined> =>
    texts ? texts.get(name) : readText(folder, name);
  const path = join(folder, "tokenizer.json");
  const stored = await readJson(folder, "tokenizer.json", read);
  if (!stored) {
    throw new QdoraError(
      path,
      "does not exist",
      "use a model folder with tokenizer.json, or data with ready-made `input_ids`",
    );
  }
  const tokenizer = {
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    added_tokens: [],
    ...stored,
  };
  checkIds(tokenizer, path);
  const config = (await readJson(folder, "tokenizer_config.json", read)) ?? {};
  const map = (await readJson(folder, "special_tokens_map.json", read)) ?? {};
  const specialTokens = specialTokensOf([map, config]);
  const generation = (await readJson(folder, "generation_config.json", read)) ?? {};
  const model = (await readJson(folder, "config.json", read)) ?? {};
  const template = await read("chat_template.jinja");
  return {
    tokenizer,
    config: { ...config, ...specialTokens },
    specialTokens,
    chatTemplate: template ?? templateOf(config["chat_template"], join(folder, "tokenizer_config.json")),
    eosIds: [...new Set([...idsOf(generation["eos_token_id"]), ...idsOf(model["eos_token_id"])])],
  };
}
