/** The base model of what is pushed, as others can find it: which name, and copies of configuration files that say it. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { isObject, quoted, readJsonFile, readTextFile } from "../formats/json.js";
import { insertKey } from "../formats/json_insert.js";
import { ADAPTER_CONFIG } from "../formats/peft.js";
import { isRepoId } from "../hub/names.js";
import type { FileToPush } from "../hub/upload_source.js";

const MAX_CONFIG_BYTES = 64 << 20;

/** What others can find on the Hub: a name of its form, and no folder here. */
const isHubBase = (name: string): boolean => isRepoId(name) && !existsSync(name);

/**
 * @param wanted what a person says
 * @param named what the files say, the first that others can find counts
 * @param path where the names stand, for messages
 * @throws QdoraError if the files name a folder of this machine
 */
export function chooseHubBase(
  wanted: string | undefined,
  named: readonly (string | undefined)[],
  path: string,
  isOptional = false,
): string | undefined {
  if (wanted === "none") return undefined;
  if (wanted !== undefined) {
    if (isRepoId(wanted)) return wanted;
    throw new QdoraError(
      "base-model",
      `${quoted(wanted)} is not a name of the form ORG/NAME`,
      "name it as the Hub's pages show it, or say none",
      { exitCode: 2 },
    );
  }
  const names = named.filter((name) => name !== undefined);
  const found = names.find(isHubBase);
  if (found !== undefined || (names.length === 0 && isOptional)) return found;
  const [local] = names;
  throw new QdoraError(
    path,
    local === undefined
      ? "names no base model"
      : `names the base model ${quoted(local)}, a folder of this machine that others do not have`,
    "say what it is on the Hub with --base-model ORG/NAME, or --base-model none",
  );
}

/** A JSON file whose key may name a folder of this machine: then the copy that goes up names the base. Other bytes stay. */
export async function namedFile(
  folder: string,
  name: string,
  key: string,
  base: string | undefined,
): Promise<FileToPush> {
  const file = join(folder, name);
  const text = await readTextFile(file, MAX_CONFIG_BYTES);
  const json = await readJsonFile(file, MAX_CONFIG_BYTES);
  if (!isObject(json))
    throw new QdoraError(file, "is not a JSON object", "give the folder of an adapter or a merged model");
  const member = new RegExp(`("${key}"\\s*:\\s*)("(?:[^"\\\\]|\\\\.)*")`, "g");
  const changed = text.replaceAll(member, (all: string, head: string, literal: string) => {
    const value = String(JSON.parse(literal));
    return value === "" || isHubBase(value) ? all : `${head}${JSON.stringify(base ?? "")}`;
  });
  return { path: name, content: changed === text ? file : Buffer.from(changed) };
}

/** adapter_config.json with the base that others can find. */
export async function adapterConfigFile(folder: string, base: string | undefined): Promise<FileToPush> {
  const file = join(folder, ADAPTER_CONFIG);
  const text = await readTextFile(file, MAX_CONFIG_BYTES);
  const json = await readJsonFile(file, MAX_CONFIG_BYTES);
  const named = isObject(json) ? (json["base_model_name_or_path"] ?? undefined) : undefined;
  if (named === base) return { path: ADAPTER_CONFIG, content: file };
  // A revision is one of the base that was named.
  const bare = text.replace(/("(?:base_model_name_or_path|revision)"\s*:\s*)"(?:[^"\\]|\\.)*"/g, "$1null");
  const changed =
    base === undefined ? bare : insertKey(bare, "base_model_name_or_path", JSON.stringify(base));
  return { path: ADAPTER_CONFIG, content: Buffer.from(changed) };
}
