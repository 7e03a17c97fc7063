/** A model folder's tensors, in one safetensors file or in several with an index; read in pieces, by name. */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { QdoraError } from "./error.js";
import { openFile, readBytes, type OpenFile } from "./files.js";
import { bf16ToF32, f16ToF32 } from "./floats.js";
import { isObject, parseStrictJson, quoted, readTextFile } from "./json.js";
import { isPickleName, readOpenHeader, type TensorEntry } from "./safetensors.js";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const MAX_INDEX_BYTES = 64 << 20;
const DAMAGED = "the folder is incomplete or damaged; download it again";

/** Open files of a model folder; `close` ends it. */
export interface Checkpoint {
  readonly folder: string;
  /** Paths of its safetensors files. */
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /**
   * Reads bytes of one tensor.
   * @param firstByte counted from the tensor's start
   * @param byteCount default: the rest
   * @param out where they go, `byteCount` long (default: memory of their own)
   * @throws QdoraError if the file is shorter than it was when it was opened
   */
  read(entry: TensorEntry, firstByte?: number, byteCount?: number, out?: Uint8Array): Promise<Uint8Array>;
  close(): Promise<void>;
}

/**
 * Opens `model.safetensors`, or the files that `model.safetensors.index.json` names, and checks all headers.
 * @throws QdoraError naming the file for anything missing or damaged
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const names = await fileNames(folder);
  if (names.includes(SINGLE)) return openFiles(folder, [SINGLE], undefined);
  if (!names.includes(INDEX)) throw noWeights(folder, names);
  const weightMap = await readIndex(join(folder, INDEX));
  const wanted = [...new Set(weightMap.values())].toSorted();
  const missing = wanted.find((name) => !names.includes(name));
  if (missing !== undefined)
    throw new QdoraError(
      join(folder, INDEX),
      `names ${quoted(missing)}, which is not in the folder`,
      DAMAGED,
    );
  return openFiles(folder, wanted, weightMap);
}

/** Opens one safetensors file as a checkpoint of its own. @throws QdoraError naming the file */
export const openCheckpointFile = (path: string): Promise<Checkpoint> =>
  openFiles(dirname(path), [basename(path)], undefined);

async function fileNames(folder: string): Promise<readonly string[]> {
  const found = await stat(folder).catch(() => undefined);
  if (!found) throw new QdoraError(folder, "does not exist", "give a model folder");
  if (!found.isDirectory())
    throw new QdoraError(folder, "is not a folder", `give the folder that holds ${SINGLE} and config.json`);
  return readdir(folder);
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

/** Tensor name -> file name, from the index. File names cannot lead out of the folder. */
async function readIndex(path: string): Promise<ReadonlyMap<string, string>> {
  // Indices differ in their metadata (total_size may be 1.5e9), so numbers of any form are let through.
  const json = parseStrictJson(await readTextFile(path, MAX_INDEX_BYTES), path, "any");
  const weightMap = isObject(json) ? json["weight_map"] : undefined;
  if (!isObject(weightMap) || Object.keys(weightMap).length === 0)
    throw new QdoraError(path, "has no weight_map of tensor names to file names", DAMAGED);
  const files = new Map<string, string>();
  for (const [tensor, file] of Object.entries(weightMap)) {
    if (typeof file !== "string" || !/^[^/\\:\0]+$/.test(file) || file === "." || file === "..")
      throw new QdoraError(
        path,
        `weight_map: ${quoted(tensor)} is in ${quoted(String(file))}, which is not a plain file name`,
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

async function openFiles(
  folder: string,
  names: readonly string[],
  weightMap: ReadonlyMap<string, string> | undefined,
): Promise<Checkpoint> {
  const open = new Map<string, OpenFile>();
  const close = async (): Promise<void> => {
    const files = [...open.values()];
    open.clear();
    await Promise.all(files.map((file) => file.handle.close()));
  };
  try {
    const tensors = new Map<string, TensorEntry>();
    for (const name of names) {
      const file = await openFile(join(folder, name));
      open.set(file.path, file);
      for (const [tensor, entry] of (await readOpenHeader(file)).tensors) {
        const other = tensors.get(tensor);
        if (other)
          throw new QdoraError(
            entry.file,
            `holds the tensor ${quoted(tensor)}, which is also in ${other.file}`,
            DAMAGED,
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
          DAMAGED,
        );
    }
    return { folder, files: [...open.keys()], tensors, read: (...span) => readSpan(open, ...span), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readSpan(
  open: ReadonlyMap<string, OpenFile>,
  entry: TensorEntry,
  firstByte = 0,
  byteCount = entry.byteLength - firstByte,
  out?: Uint8Array,
): Promise<Uint8Array> {
  const file = open.get(entry.file);
  if (!file) throw new Error(`${entry.file} is not open`);
  if (!(firstByte >= 0 && byteCount >= 0 && firstByte + byteCount <= entry.byteLength))
    throw new RangeError(
      `${entry.name}: bytes ${firstByte} to ${firstByte + byteCount} of ${entry.byteLength}`,
    );
  return readBytes(file, entry.byteOffset + firstByte, byteCount, out);
}

/**
 * Reads elements of an F32, F16 or BF16 tensor, widened to f32.
 * @param firstElement counted over the flat tensor
 * @throws QdoraError for another dtype
 */
export async function readAsF32(
  checkpoint: Checkpoint,
  entry: TensorEntry,
  firstElement = 0,
  count = entry.shape.reduce((a, b) => a * b, 1) - firstElement,
): Promise<Float32Array> {
  const { dtype } = entry;
  if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16")
    throw new QdoraError(entry.file, `${quoted(entry.name)} has dtype ${dtype} (supported: F32, F16, BF16)`);
  const bytes = dtype === "F32" ? 4 : 2;
  // The memory is new and starts at 0, so that typed arrays can lie over it.
  const { buffer } = await checkpoint.read(entry, firstElement * bytes, count * bytes);
  if (dtype === "F32") return new Float32Array(buffer);
  const half = new Uint16Array(buffer);
  return dtype === "BF16" ? bf16ToF32(half) : f16ToF32(half);
}
