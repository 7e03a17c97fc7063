/**
 * A model of the Hub without its weights: small texts whole, and of each safetensors file the length and the header, by
 * Range requests. Nothing is written. What is in the cache already is used from there.
 */
import { join } from "node:path";
import { MAX_STATE_BYTES, STATE } from "../formats/bitsandbytes.js";
import type { Checkpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import { decodeUtf8 } from "../formats/json.js";
import type { RemoteModel } from "../formats/remote_model.js";
import {
  headerLength,
  parseHeader,
  type SafetensorsHeader,
  type TensorEntry,
} from "../formats/safetensors.js";
import { INDEX, joinHeaders, MAX_INDEX_BYTES, weightFiles } from "../formats/weight_files.js";
import { missingFiles, snapshotPath } from "./cache.js";
import type { RepoFile } from "./listing.js";
import { locate, type AtHub } from "./locate.js";
import { inParallel } from "./parallel.js";
import type { PullOptions } from "./pull_options.js";
import { fetchSmall, fetchSpan, type SpanSource } from "./span.js";

/** Requests at once. */
const WORKERS = 6;
/** As for the same files in a folder. */
const maxTextBytes = (path: string): number => (path === "config.json" ? 4 : 256) * 2 ** 20;
/** Of all files of a model together; those of the largest models have some 20 MB. */
const MAX_HEADERS_BYTES = 256 * 2 ** 20;
/** quant_state texts of a model; 100 layers have 700. */
const MAX_STATES = 20_000;

/** The folder of a model, or its headers. */
export type FolderOrHeaders = { readonly path: string } | { readonly remote: RemoteModel };

/**
 * A model of the Hub as its headers describe it, or its folder where the cache has all of it.
 * @param id `ORG/NAME`
 * @throws QdoraError
 */
export async function modelHeaders(id: string, options: PullOptions = {}): Promise<FolderOrHeaders> {
  const found = await locate(id, { ...options, type: "model" });
  if (found.at === "cache") return { path: found.path };
  const { cache, commit, files } = found;
  if ((await missingFiles(cache, commit, files)).length > 0) return { remote: remoteModel(found, options) };
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  options.listen?.({ type: "listed", repo: id, commit, files: files.length, bytes, bytesToFetch: 0 });
  return { path: snapshotPath(cache, commit) };
}

function remoteModel(hub: AtHub, options: PullOptions): RemoteModel {
  const { repo, commit } = hub;
  let fetchedBytes = 0;
  const source: SpanSource = { ...hub, ...hub.retrying, onBytes: (count) => (fetchedBytes += count) };
  const files = new Map(hub.files.map((file) => [file.path, file]));
  const textOf = async (path: string, maxBytes: number): Promise<string | undefined> => {
    const file = files.get(path);
    if (!file) return undefined;
    return decodeUtf8(await fetchSmall(file, maxBytes, source), join(repo.id, path));
  };
  return {
    name: repo.id,
    readText: (path) => textOf(path, maxTextBytes(path)),
    openCheckpoint: async () => {
      const readIndex = async (): Promise<string> => (await textOf(INDEX, MAX_INDEX_BYTES)) ?? "";
      const checkpoint = await checkpointOf(hub, files, readIndex, source);
      const bytes = hub.files.reduce((sum, file) => sum + file.size, 0);
      const count = hub.files.length;
      options.listen?.({ type: "headers", repo: repo.id, commit, files: count, fetchedBytes, bytes });
      return checkpoint;
    },
  };
}

async function checkpointOf(
  { repo }: AtHub,
  files: ReadonlyMap<string, RepoFile>,
  readIndex: () => Promise<string>,
  source: SpanSource,
): Promise<Checkpoint> {
  const place = {
    folder: repo.id,
    damaged: "the repository is incomplete or damaged; choose another --revision, or another model",
  };
  const chosen = await weightFiles(place, [...files.keys()], readIndex);
  const weights = new Map(chosen.files.flatMap((name) => mapEntry(repo.id, files.get(name))));
  const headers = await fetchHeaders(weights, source);
  const tensors = joinHeaders(place, headers, chosen.weightMap);
  const states = await fetchStates(repo.id, weights, [...tensors.values()], source);
  return {
    folder: repo.id,
    files: [...weights.keys()],
    tensors,
    read: async (
      entry,
      firstByte = 0,
      byteCount = entry.byteLength - firstByte,
      out = new Uint8Array(byteCount),
    ) => {
      const bytes = states.get(entry);
      if (!bytes) throw new Error(`${entry.file}: the data of ${entry.name} is not here`);
      out.set(bytes.subarray(firstByte, firstByte + byteCount));
      return out;
    },
    close: () => Promise.resolve(),
  };
}

/** A file by the path that errors and tensor entries have. */
const mapEntry = (id: string, file: RepoFile | undefined): (readonly [string, RepoFile])[] =>
  file ? [[join(id, file.path), file]] : [];

/** In the order of the files. */
async function fetchHeaders(
  weights: ReadonlyMap<string, RepoFile>,
  source: SpanSource,
): Promise<readonly SafetensorsHeader[]> {
  const lengths = new Map<string, number>();
  await inParallel([...weights], WORKERS, source.signal, async ([path, file], signal) => {
    const start = await fetchSpan(file, 0, Math.min(8, file.size), { ...source, signal });
    lengths.set(path, headerLength({ path, size: file.size }, start));
  });
  const sum = [...lengths.values()].reduce((a, b) => a + b, 0);
  if (sum > MAX_HEADERS_BYTES)
    throw new QdoraError(
      source.repo.id,
      `the headers of its ${weights.size} files have ${sum} bytes (limit ${MAX_HEADERS_BYTES})`,
      "is this the right model?",
    );
  const headers = new Map<string, SafetensorsHeader>();
  await inParallel([...weights], WORKERS, source.signal, async ([path, file], signal) => {
    const end = 8 + (lengths.get(path) ?? 0);
    const bytes = await fetchSpan(file, 8, end, { ...source, signal });
    headers.set(path, parseHeader({ path, size: file.size }, bytes));
  });
  return [...weights.keys()].flatMap((path) => headers.get(path) ?? []);
}

/** The texts that say how bitsandbytes has quantised each weight: some hundred bytes each, between the weights. */
async function fetchStates(
  id: string,
  weights: ReadonlyMap<string, RepoFile>,
  tensors: readonly TensorEntry[],
  source: SpanSource,
): Promise<ReadonlyMap<TensorEntry, Uint8Array>> {
  // What is longer is refused by its reader, from the header.
  const entries = tensors.filter((e) => e.name.includes(STATE) && e.byteLength <= MAX_STATE_BYTES);
  if (entries.length > MAX_STATES)
    throw new QdoraError(
      id,
      `has ${entries.length} quant_state tensors (limit ${MAX_STATES})`,
      `download it first: qdora pull ${id}`,
    );
  const states = new Map<TensorEntry, Uint8Array>();
  await inParallel(entries, WORKERS, source.signal, async (entry, signal) => {
    const file = weights.get(entry.file);
    if (!file) throw new Error(`${entry.file} is not one of the model's files`);
    const end = entry.byteOffset + entry.byteLength;
    states.set(entry, await fetchSpan(file, entry.byteOffset, end, { ...source, signal }));
  });
  return states;
}
