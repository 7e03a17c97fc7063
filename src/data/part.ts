/** One part of a data set, the files of a source's split, as a token file: from the cache, or read and encoded now. */
import { createHash } from "node:crypto";
import { stat } from "node:fs/promises";
import { extname } from "node:path";
import { QdoraError } from "../formats/error.js";
import { checkBroken, type BrokenRows } from "./broken_rows.js";
import type { RawChunk, EncodedChunk } from "./encode_chunk.js";
import { openPool, type EncodeSettings } from "./encode_pool.js";
import { readPieces } from "./file_pieces.js";
import type { RawRow } from "./raw_row.js";
import { readFileRows } from "./read_file.js";
import { noRows } from "./sources.js";
import { cachedTokens, cacheKey, makeTokens } from "./token_cache.js";
import type { TokenFile } from "./token_file.js";
import { tokenBytes } from "./token_records.js";
import type { TokenWriter } from "./token_writer.js";

export interface PartFiles {
  /** How messages name the part. */
  readonly name: string;
  readonly paths: readonly string[];
  /** Rows from `from` up to `to`, counted over all files. */
  readonly from: number;
  readonly to: number;
}

export interface DataPart {
  readonly files: PartFiles;
  readonly tokens: TokenFile;
  readonly broken: BrokenRows;
  /** Hash of the files' bytes and of what is read of them. */
  readonly fingerprint: string;
  /** It was tokenised in an earlier run. */
  readonly isCached: boolean;
}

/** A chunk goes to one thread at once. */
const CHUNK_ROWS = 512;
const CHUNK_CHARACTERS = 1 << 20;

/** @throws QdoraError if there are no rows, or more than 1 % of them are broken */
export async function loadPart(files: PartFiles, settings: EncodeSettings): Promise<DataPart> {
  const before = await Promise.all(files.paths.map(fileState));
  const hashes: string[] = [];
  for (const path of files.paths) hashes.push(await hashFile(path));
  const { columns, tokenizer, maxSeqLength, trainOnPrompt, vocabSize } = settings;
  const kinds = files.paths.map((path) => extname(path).toLowerCase());
  const data = [
    hashes,
    kinds,
    Object.entries(columns).toSorted(([a], [b]) => (a < b ? -1 : 1)),
    files.from,
    files.to,
  ];
  const key = cacheKey([
    data,
    tokenizer?.fingerprint() ?? null,
    templateDate(tokenizer?.chatTemplate),
    maxSeqLength,
    trainOnPrompt,
    vocabSize,
  ]);
  const fingerprint = createHash("sha256").update(JSON.stringify(data)).digest("hex");
  const cached = await cachedTokens(key);
  const fill = async (writer: TokenWriter): Promise<void> => {
    await encodeFiles(files, settings, sum(before.map((state) => state.bytes)), writer);
    const { broken, brokenCount } = writer.summary;
    checkBroken(files.paths, broken, brokenCount, writer.rows + brokenCount);
    if (writer.rows === 0) throw noRows(files.name, files.from, files.to);
    const after = await Promise.all(files.paths.map(fileState));
    const changed = after.findIndex((state, i) => state.changed !== before[i]?.changed);
    if (changed >= 0)
      throw new QdoraError(files.paths[changed] ?? "data", "changed while it was read", "start again");
  };
  const tokens = cached ?? (await makeTokens(key, tokenBytes(vocabSize), fill));
  const { broken, brokenCount } = tokens.summary;
  return {
    files,
    tokens,
    broken: checkBroken(files.paths, broken, brokenCount, tokens.rows + brokenCount),
    fingerprint,
    isCached: cached !== undefined,
  };
}

async function fileState(path: string): Promise<{ readonly bytes: number; readonly changed: string }> {
  const { size, mtimeMs } = await stat(path);
  return { bytes: size, changed: `${size} ${mtimeMs}` };
}

async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of readPieces(path)) hash.update(piece);
  return hash.digest("hex");
}

/** Some templates write today's date; their tokens are good for a day. */
function templateDate(template: string | undefined): string {
  return template?.includes("strftime_now") ? new Date().toDateString() : "";
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

async function encodeFiles(
  files: PartFiles,
  settings: EncodeSettings,
  bytes: number,
  writer: TokenWriter,
): Promise<void> {
  const pool = openPool(bytes, settings);
  const underWay: Promise<EncodedChunk>[] = [];
  try {
    for await (const chunk of readChunks(files, settings)) {
      if (settings.signal?.aborted)
        throw new QdoraError("data", `${files.name}: stopped while it was tokenised`, "start again");
      const encoded = pool.encode(chunk);
      // Failures are met in order, below.
      encoded.catch(() => undefined);
      underWay.push(encoded);
      while (underWay.length >= pool.depth) await addFirst(underWay, writer);
    }
    while (underWay.length > 0) await addFirst(underWay, writer);
  } finally {
    await pool.close();
  }
}

async function addFirst(underWay: Promise<EncodedChunk>[], writer: TokenWriter): Promise<void> {
  const chunk = await underWay.shift();
  if (chunk) await writer.add(chunk);
}

async function* readChunks(files: PartFiles, settings: EncodeSettings): AsyncGenerator<RawChunk> {
  let row = 0;
  for (const [file, path] of files.paths.entries()) {
    let rows: RawRow[] = [];
    let characters = 0;
    for await (const raw of readFileRows(path, settings.columns)) {
      if (row >= files.to) break;
      row += 1;
      if (row <= files.from) continue;
      rows.push(raw);
      characters += "text" in raw ? raw.text.length : "value" in raw ? charactersOf(raw.value) : 0;
      if (rows.length < CHUNK_ROWS && characters < CHUNK_CHARACTERS) continue;
      yield { file, path, rows };
      [rows, characters] = [[], 0];
    }
    if (rows.length > 0) yield { file, path, rows };
    if (row >= files.to) return;
  }
}

/** About how much text a value holds. */
function charactersOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 8;
  let total = 0;
  for (const inner of Object.values(value)) total += charactersOf(inner);
  return total;
}
