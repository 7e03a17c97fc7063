/** Which files of an adapter or model folder go to the Hub, and that they are sound: decided before anything is sent. */
import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { openCheckpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import { isObject, quoted, readJsonFile, readTextFile } from "../formats/json.js";
import { TOKENIZER_FILES } from "../formats/model_files.js";
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, readPeftAdapter } from "../formats/peft.js";
import { refuseUnfinished } from "../formats/unfinished_run.js";
import { globMatcher } from "../hub/glob.js";
import { pathProblem } from "../hub/names.js";
import { checkPush, pushFiles, type Pushed, type PushOptions } from "../hub/push.js";
import type { FileToPush } from "../hub/upload_source.js";
import { adapterConfigFile, chooseHubBase, namedFile } from "./push_base.js";
import { cardBase, cardForHub, type CardFacts } from "./push_card.js";

export interface PushFolderOptions extends Omit<PushOptions, "message"> {
  /** Default: what kind of folder it is. */
  readonly message?: string | undefined;
  /** Globs of further files. */
  readonly include?: readonly string[] | undefined;
  /** The base model's name on the Hub, or "none"; default: what adapter and card say. */
  readonly baseModel?: string | undefined;
}

const CARD = "README.md";
const CONFIG = "config.json";
const INDEX = "model.safetensors.index.json";
const MAX_TEXT_BYTES = 4 << 20;
const MAX_FILES = 10_000;
/** Beside the weights and the card. */
const SMALL_FILES = [...TOKENIZER_FILES, "chat_template.json", "vocab.txt"];

/**
 * Uploads an adapter folder (an output_dir, a checkpoint, PEFT's own) or a model folder in one commit.
 * @param id `ORG/NAME`; made if it does not exist
 * @throws QdoraError; then nothing was committed, unless a "late" event said otherwise
 */
export async function pushFolder(
  folder: string,
  id: string,
  options: PushFolderOptions = {},
): Promise<Pushed> {
  const kind = await kindOf(folder);
  const all = { ...options, message: options.message ?? `Upload ${kind} with qdora` };
  const settings = await checkPush(id, all);
  const files =
    kind === "adapter" ? await adapterFiles(folder, id, options) : await modelFiles(folder, id, options);
  const more = await includedFiles(folder, options.include ?? [], new Set(files.map(({ path }) => path)));
  return pushFiles(id, [...files, ...more], { ...all, settings });
}

/** @throws QdoraError for a folder that holds neither, or a run that is not finished */
async function kindOf(folder: string): Promise<"adapter" | "model"> {
  const found = await stat(folder).catch(() => undefined);
  if (!found?.isDirectory())
    throw new QdoraError(
      folder,
      found ? "is a file" : "does not exist",
      "give the folder of an adapter or a merged model",
    );
  const names = await readdir(folder);
  if (names.includes(ADAPTER_CONFIG)) return "adapter";
  await refuseUnfinished(folder, ADAPTER_CONFIG, (checkpoint) => `push ${checkpoint}`);
  if (names.includes(CONFIG)) return "model";
  throw new QdoraError(
    folder,
    names.includes("qdora_config.yaml")
      ? "the run is not finished: there is no adapter yet"
      : `holds neither ${ADAPTER_CONFIG} nor ${CONFIG}`,
    "give the output_dir of a finished run, or the folder of a merged model",
  );
}

async function adapterFiles(folder: string, id: string, options: PushFolderOptions): Promise<FileToPush[]> {
  // Reads all weights: a broken adapter is not for others.
  const { config, tensors } = await readPeftAdapter(folder);
  const card = await readCard(folder);
  const named = config.base_model_name_or_path || undefined;
  const base = chooseHubBase(options.baseModel, [named, cardBase(card)], join(folder, ADAPTER_CONFIG));
  const parameters = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
  const method = config.use_dora ? "dora" : "lora";
  const facts: CardFacts = {
    id,
    kind: "adapter",
    base,
    localBase: named === base ? undefined : named,
    method,
    folder: resolve(folder),
    rows: [
      ["base model", base === undefined ? "not on the Hub" : `\`${base}\``],
      ["adapter", `${config.use_rslora ? "rank-stabilised " : ""}${config.use_dora ? "DoRA" : "LoRA"}`],
      ["rank, alpha", `${config.r}, ${config.lora_alpha}`],
      ["trained parameters", `${parameters}`],
    ],
  };
  return [
    await adapterConfigFile(folder, base),
    { path: ADAPTER_WEIGHTS, content: join(folder, ADAPTER_WEIGHTS) },
    cardFile(card, folder, facts),
    ...(await smallFiles(folder, base)),
  ];
}

async function modelFiles(folder: string, id: string, options: PushFolderOptions): Promise<FileToPush[]> {
  const config = await readJsonFile(join(folder, CONFIG), MAX_TEXT_BYTES);
  if (!isObject(config) || typeof config["model_type"] !== "string")
    throw new QdoraError(
      join(folder, CONFIG),
      "has no model_type",
      "give the folder of a Hugging Face model",
    );
  const checkpoint = await openCheckpoint(folder);
  const weights = checkpoint.files.map((path) => basename(path));
  const count = checkpoint.tensors.size;
  await checkpoint.close();
  if (!weights.includes("model.safetensors")) weights.push(INDEX);
  const card = await readCard(folder);
  const named = cardBase(card);
  // A model may stand alone: without a card nobody said that it has a base.
  const base = chooseHubBase(options.baseModel, [named], join(folder, CARD), true);
  const facts: CardFacts = {
    id,
    kind: "model",
    base,
    localBase: named === base ? undefined : named,
    method: undefined,
    folder: resolve(folder),
    rows: [
      ["architecture", config["model_type"]],
      ...(base === undefined ? [] : [["base model", `\`${base}\``] as const]),
      ["tensors", `${count}`],
    ],
  };
  return [
    await namedFile(folder, CONFIG, "_name_or_path", base),
    ...weights.map((path) => ({ path, content: join(folder, path) })),
    ...(existsSync(join(folder, "generation_config.json"))
      ? [await namedFile(folder, "generation_config.json", "_name_or_path", base)]
      : []),
    cardFile(card, folder, facts),
    ...(await smallFiles(folder, base)),
  ];
}

async function readCard(folder: string): Promise<string | undefined> {
  const path = join(folder, CARD);
  return existsSync(path) ? readTextFile(path, MAX_TEXT_BYTES) : undefined;
}

const cardFile = (text: string | undefined, folder: string, facts: CardFacts): FileToPush => ({
  path: CARD,
  content: Buffer.from(cardForHub(text, join(folder, CARD), facts)),
});

async function smallFiles(folder: string, base: string | undefined): Promise<FileToPush[]> {
  const files: FileToPush[] = [];
  for (const name of SMALL_FILES) {
    const path = join(folder, name);
    if (!existsSync(path)) continue;
    files.push(
      name === "tokenizer_config.json"
        ? await namedFile(folder, name, "name_or_path", base)
        : { path: name, content: path },
    );
  }
  return files;
}

/** Files below the folder that the globs name. @throws QdoraError for a glob that names none */
async function includedFiles(
  folder: string,
  globs: readonly string[],
  there: ReadonlySet<string>,
): Promise<FileToPush[]> {
  if (globs.length === 0) return [];
  const names = (await readdir(folder, { recursive: true })).map((name) => name.replaceAll("\\", "/"));
  const chosen = new Set<string>();
  for (const glob of globs) {
    const matches = globMatcher(glob);
    let isUsed = false;
    for (const name of names.filter(matches)) {
      if (pathProblem(name) !== undefined || !(await stat(join(folder, name))).isFile()) continue;
      isUsed = true;
      if (!there.has(name)) chosen.add(name);
    }
    if (!isUsed)
      throw new QdoraError("include", `${quoted(glob)} names no file in ${folder}`, "look at the folder", {
        exitCode: 2,
      });
  }
  if (chosen.size > MAX_FILES)
    throw new QdoraError("include", `names ${chosen.size} files (limit ${MAX_FILES})`, "name fewer", {
      exitCode: 2,
    });
  return [...chosen].toSorted().map((path) => ({ path, content: join(folder, path) }));
}
