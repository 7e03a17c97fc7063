/** A model folder's tensors, in one safetensors file or in several with an index; read in pieces, by name. */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { QdoraError } from "./error.js";
import { openFile, readBytes, type OpenFile } from "./files.js";
import { bf16ToF32, f16ToF32 } from "./floats.js";
import { quoted, readTextFile } from "./json.js";
import { readOpenHeader, type SafetensorsHeader, type TensorEntry } from "./safetensors.js";
import { INDEX, joinHeaders, MAX_INDEX_BYTES, SINGLE, weightFiles, type ModelPlace } from "./weight_files.js";

const placeOf = (folder: string): ModelPlace => ({
  folder,
  damaged: "the folder is incomplete or damaged; download it again",
});

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
  const { files, weightMap } = await weightFiles(placeOf(folder), names, () =>
    readTextFile(join(folder, INDEX), MAX_INDEX_BYTES),
  );
  return openFiles(folder, files, weightMap);
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
    const headers: SafetensorsHeader[] = [];
    for (const name of names) {
      const file = await openFile(join(folder, name));
      open.set(file.path, file);
      headers.push(await readOpenHeader(file));
    }
    const tensors = joinHeaders(placeOf(folder), headers, weightMap);
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
