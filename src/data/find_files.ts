/** The files of a source: one file, or a folder with splits, as people make them and as the hub's data sets have them. */
import { readdir, stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { hubDatasetFolder, isHubName } from "./hub_source.js";
import { EXTENSIONS } from "./read_file.js";
import type { DataSource } from "./sources.js";

/** The files of each split, in the order of their rows. */
export type Splits = ReadonlyMap<string, readonly string[]>;

export interface SourceFiles {
  readonly train: readonly string[];
  /** Held-out rows that the source brings with it. */
  readonly validation: readonly string[];
  /** Every split that was found; empty for a single file. */
  readonly splits: Splits;
}

/** Names of one split; the first that is there is taken. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  train: ["train", "training"],
  validation: ["valid", "validation", "dev", "val"],
  test: ["test"],
};
const MAX_FILES = 100_000;

/** @throws QdoraError if there is none, or its format is not known */
export async function findDataFiles(source: Pick<DataSource, "path" | "split">): Promise<SourceFiles> {
  const path = isHubName(source.path) ? await hubDatasetFolder(source.path) : source.path;
  const found = await stat(path).catch(() => undefined);
  if (!found)
    throw new QdoraError(
      "data",
      `${path} does not exist`,
      `give a file (${EXTENSIONS.join(", ")}), or a folder with train.jsonl or the like`,
    );
  if (found.isDirectory()) return folderFiles(path, source.split);
  if (!found.isFile())
    throw new QdoraError("data", `${path} is neither a file nor a folder`, "give a .jsonl or .json file");
  const extension = extname(path).toLowerCase();
  if (!EXTENSIONS.includes(extension)) {
    throw new QdoraError(
      "data",
      `${basename(path)} has the ending "${extension}"`,
      `these can be read: ${EXTENSIONS.join(", ")}`,
    );
  }
  if (source.split !== undefined)
    throw new QdoraError(
      "data",
      `${path} is one file and has no split ${source.split}`,
      "leave the split out",
      {
        exitCode: 2,
      },
    );
  return { train: [path], validation: [], splits: new Map() };
}

async function folderFiles(path: string, split: string | undefined): Promise<SourceFiles> {
  const splits = await findSplits(path);
  const called = (name: string): readonly string[] | undefined =>
    (NAMES[name] ?? []).map((one) => splits.get(one)).find((files) => files !== undefined);
  const files = split === undefined ? called("train") : (splits.get(split) ?? called(split));
  if (files) {
    const validation = split === undefined ? (called("validation") ?? []) : [];
    return { train: files, validation, splits };
  }
  const there = [...splits.keys()].toSorted();
  if (there.length > 0)
    throw new QdoraError(
      "data",
      `${path} has no split ${split ?? "train"}`,
      `it has ${there.join(", ")}: write ${path}:${there[0]}`,
    );
  const inside = await foldersWithSplits(path);
  throw new QdoraError(
    "data",
    `${path} has no train.jsonl`,
    inside.length > 0
      ? `give one of its folders: ${inside.slice(0, 6).join(", ")}`
      : "give a file, or a folder with train.jsonl and perhaps valid.jsonl (.csv and .parquet as well)",
  );
}

/** Some data sets keep a folder for each of their parts ("main", "socratic"). */
async function foldersWithSplits(path: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith(".") || found.length >= 6) continue;
    const inside = join(path, entry.name);
    if ((await findSplits(inside).catch(() => new Map<string, unknown>())).size > 0) found.push(inside);
  }
  return found.toSorted();
}

/** The splits of a folder: of its own files, else of those in `data/`, else its folders that are named like splits. */
async function findSplits(path: string): Promise<Splits> {
  const own = splitsOf(path, await filesIn(path));
  if (own.size > 0) return own;
  const inside = splitsOf(join(path, "data"), await filesIn(join(path, "data")));
  if (inside.size > 0) return inside;
  const byFolder = new Map<string, readonly string[]>();
  for (const name of Object.values(NAMES).flat()) {
    const folder = join(path, name);
    const files = (await filesIn(folder)).filter((file) => EXTENSIONS.includes(extname(file).toLowerCase()));
    if (files.length > 0) byFolder.set(name, checkShards(folder, files.toSorted()));
  }
  return byFolder;
}

async function filesIn(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  if (entries.length > MAX_FILES)
    throw new QdoraError(
      "data",
      `${path} has ${entries.length} entries (limit ${MAX_FILES})`,
      "is this a data set?",
    );
  const names: string[] = [];
  for (const entry of entries) {
    // The hub's cache keeps links to its blobs.
    const isFile =
      entry.isFile() ||
      (entry.isSymbolicLink() &&
        (await stat(join(path, entry.name)).catch(() => undefined))?.isFile() === true);
    if (isFile) names.push(entry.name);
  }
  return names;
}

/** `train.jsonl`, or the shards `train-00000-of-00002.parquet`. Of several formats of one split the first is taken. */
function splitsOf(folder: string, names: readonly string[]): Splits {
  const found = new Map<string, Map<string, string[]>>();
  for (const name of names) {
    const extension = extname(name).toLowerCase();
    if (!EXTENSIONS.includes(extension)) continue;
    const [, split = "", shard] =
      /^([A-Za-z0-9_.]+?)(-\d{1,6}-of-\d{1,6}(?:-[0-9a-f]+)?)?$/.exec(name.slice(0, -extension.length)) ?? [];
    // A lone file may have any name; only known splits make a folder a data set, shards say so by themselves.
    if (split === "" || (shard === undefined && !Object.values(NAMES).flat().includes(split))) continue;
    const formats = found.get(split) ?? new Map<string, string[]>();
    found.set(split, formats);
    formats.set(extension, [...(formats.get(extension) ?? []), name]);
  }
  const splits = new Map<string, readonly string[]>();
  for (const [split, formats] of found) {
    const extension = EXTENSIONS.find((one) => formats.has(one)) ?? "";
    splits.set(split, checkShards(folder, (formats.get(extension) ?? []).toSorted()));
  }
  return splits;
}

/** @throws QdoraError if a shard is missing: rows would be, too */
function checkShards(folder: string, names: readonly string[]): readonly string[] {
  const shards = names.flatMap((name) => {
    const [, stem, index, count] = /^(.*)-(\d{1,6})-of-(\d{1,6})/.exec(name) ?? [];
    return stem === undefined ? [] : [{ stem, index: Number(index), count: Number(count) }];
  });
  const [first] = shards;
  if (first && shards.length === names.length) {
    const there = new Set(shards.map((shard) => shard.index));
    for (let i = 0; i < first.count; i++) {
      if (there.has(i)) continue;
      throw new QdoraError(
        "data",
        `${folder} lacks shard ${i} of ${first.count} of ${first.stem}`,
        "download the data set again",
      );
    }
  }
  return names.map((name) => join(folder, name));
}
