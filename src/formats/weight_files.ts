/** Which files of a model hold its weights, and their headers as one: for folders, and for models that are not here. */
import { join } from "node:path";
import { QdoraError } from "./error.js";
import { isObject, parseStrictJson, quoted, shownJson } from "./json.js";
import { isPickleName, type SafetensorsHeader, type TensorEntry } from "./safetensors.js";

export const SINGLE = "model.safetensors";
export const INDEX = "model.safetensors.index.json";
export const MAX_INDEX_BYTES = 64 << 20;

/** A model's files, wherever they are. */
export interface ModelPlace {
  /** Path of the folder, or the Hub's name: what errors name. */
  readonly folder: string;
  /** What to do when files are missing or do not fit each other. */
  readonly damaged: string;
}

/** Tensor name -> file name. */
export type WeightMap = ReadonlyMap<string, string>;

/**
 * The names of the files that hold the weights: `model.safetensors`, or those that the index names.
 * @param names of all files there
 * @throws QdoraError if there are none, or if one that the index names is missing
 */
export async function weightFiles(
  { folder, damaged }: ModelPlace,
  names: readonly string[],
  readIndex: () => Promise<string>,
): Promise<{ readonly files: readonly string[]; readonly weightMap: WeightMap | undefined }> {
  if (names.includes(SINGLE)) return { files: [SINGLE], weightMap: undefined };
  if (!names.includes(INDEX)) throw noWeights(folder, names);
  const weightMap = parseIndex(await readIndex(), join(folder, INDEX), damaged);
  const files = [...new Set(weightMap.values())].toSorted();
  const missing = files.find((name) => !names.includes(name));
  if (missing === undefined) return { files, weightMap };
  throw new QdoraError(join(folder, INDEX), `names ${quoted(missing)}, which is not beside it`, damaged);
}

function noWeights(folder: string, names: readonly string[]): QdoraError {
  const pickle = names.find(isPickleName);
  if (pickle !== undefined)
    return new QdoraError(
      folder,
      `holds ${quoted(pickle)} but no ${SINGLE}; pickles can run code and are never opened`,
      "use a safetensors version of the model, or save it again in Python with save_pretrained(folder, safe_serialization=True)",
    );
  const other = names.find((name) => /\.(safetensors|gguf)$/i.test(name));
  return new QdoraError(
    folder,
    `holds neither ${SINGLE} nor ${INDEX}${other === undefined ? "" : ` (only ${quoted(other)})`}`,
    "give a Hugging Face model folder",
  );
}

/** File names of an index cannot lead out of the folder. */
function parseIndex(text: string, path: string, damaged: string): WeightMap {
  // Indices differ in their metadata (total_size may be 1.5e9), so numbers of any form are let through.
  const json = parseStrictJson(text, path, "any");
  const weightMap = isObject(json) ? json["weight_map"] : undefined;
  if (!isObject(weightMap) || Object.keys(weightMap).length === 0)
    throw new QdoraError(path, "has no weight_map of tensor names to file names", damaged);
  const files = new Map<string, string>();
  for (const [tensor, file] of Object.entries(weightMap)) {
    if (typeof file !== "string" || !/^[^/\\:\0]+$/.test(file) || file === "." || file === "..")
      throw new QdoraError(
        path,
        `weight_map: ${quoted(tensor)} is in ${shownJson(file)}, which is not a plain file name`,
        "files of a model lie beside its index",
      );
    if (!file.endsWith(".safetensors"))
      throw new QdoraError(
        path,
        `weight_map: ${quoted(tensor)} is in ${quoted(file)}, which is not a safetensors file`,
        "use a safetensors version of the model",
      );
    files.set(tensor, file);
  }
  return files;
}

/**
 * All tensors of a checkpoint, by name.
 * @param weightMap what the index says about them
 * @throws QdoraError for a tensor that two files hold, or that is not where the index says
 */
export function joinHeaders(
  { folder, damaged }: ModelPlace,
  headers: readonly SafetensorsHeader[],
  weightMap: WeightMap | undefined,
): ReadonlyMap<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  for (const header of headers) {
    for (const [tensor, entry] of header.tensors) {
      const other = tensors.get(tensor);
      if (other)
        throw new QdoraError(
          entry.file,
          `holds the tensor ${quoted(tensor)}, which is also in ${other.file}`,
          damaged,
        );
      tensors.set(tensor, entry);
    }
  }
  for (const [tensor, name] of weightMap ?? []) {
    const path = join(folder, name);
    if (tensors.get(tensor)?.file !== path)
      throw new QdoraError(
        path,
        `does not hold the tensor ${quoted(tensor)}, though ${INDEX} says so`,
        damaged,
      );
  }
  return tensors;
}
