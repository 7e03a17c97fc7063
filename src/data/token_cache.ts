/**
 * Token files on disk, so that the same data is tokenised once. A file's name is the hash of everything that its tokens
 * depend on. Bounded: the files that were not used for the longest time go first.
 */
import { createHash, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { mkdtemp, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cacheFolder } from "../program/tuner.js";
import { TokenFile } from "./token_file.js";
import { makeFolder } from "../formats/make_folder.js";
import { version } from "../formats/version.js";
import { TOKEN_FILE_VERSION } from "./token_layout.js";
import { TokenWriter } from "./token_writer.js";

const MAX_CACHE_BYTES = 20e9;
const MAX_CACHE_FILES = 1024;
/** A temporary file that nobody has written to for so long belongs to a run that died. */
const STALE_MS = 24 * 3600 * 1000;
const ENDING = ".tokens";

/** @param dependsOn everything that the tokens depend on, as JSON */
export const cacheKey = (dependsOn: unknown): string =>
  createHash("sha256")
    .update(JSON.stringify([TOKEN_FILE_VERSION, version, dependsOn]))
    .digest("hex");

const tokenFolder = (): string => join(cacheFolder(), "tokens");

/** @returns the file of a key, or undefined if there is none or it is damaged */
export async function cachedTokens(key: string): Promise<TokenFile | undefined> {
  const path = join(tokenFolder(), key + ENDING);
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) return undefined;
  const file = TokenFile.open(path);
  const now = new Date();
  if (file) await utimes(path, now, now).catch(() => undefined);
  return file;
}

/**
 * Writes the file of a key under a temporary name, which becomes its own once it is whole. Where the cache cannot be
 * written, the file lies in the system's temporary folder and is gone once it is open.
 * @param fill adds the rows; nothing remains if it throws, or if the process ends in it
 */
export async function makeTokens(
  key: string,
  width: 2 | 4,
  fill: (writer: TokenWriter) => Promise<void>,
): Promise<TokenFile> {
  const name = `${key.slice(0, 32)}.${process.pid}.${randomBytes(6).toString("hex")}.tmp`;
  const folder = tokenFolder();
  let lone: string | undefined;
  const create = async (): Promise<TokenWriter> => {
    makeFolder(folder);
    return TokenWriter.create(join(folder, name), width);
  };
  const writer = await create().catch(async () => {
    lone = await mkdtemp(join(tmpdir(), "qdora-tokens-lone-"));
    return TokenWriter.create(join(lone, name), width);
  });
  // A run that is stopped waits a moment for what cannot be interrupted, then exits.
  const drop = (): void => rmSync(lone ?? writer.path, { recursive: true, force: true });
  process.once("exit", drop);
  try {
    try {
      await fill(writer);
      await writer.finish();
    } catch (error) {
      await writer.abandon();
      throw error;
    }
    const path = lone === undefined ? join(folder, key + ENDING) : writer.path;
    if (lone === undefined) await rename(writer.path, path);
    const file = TokenFile.open(path);
    if (!file) throw new Error(`${path} is not what was written`);
    if (lone === undefined) await trim(folder, path);
    return file;
  } finally {
    process.off("exit", drop);
    if (lone !== undefined) await rm(lone, { recursive: true, force: true });
  }
}

/** Deletes what is over the bounds, the least recently used first, and what dead runs have left. */
async function trim(folder: string, keep: string): Promise<void> {
  const files: { readonly path: string; readonly bytes: number; readonly usedMs: number }[] = [];
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined);
    if (!found?.isFile()) continue;
    if (name.endsWith(".tmp") && Date.now() - found.mtimeMs > STALE_MS) await rm(path, { force: true });
    if (name.endsWith(ENDING)) files.push({ path, bytes: found.size, usedMs: found.mtimeMs });
  }
  files.sort((a, b) => b.usedMs - a.usedMs);
  let [bytes, count] = [0, 0];
  for (const file of files) {
    bytes += file.bytes;
    count += 1;
    // A run that has the file open keeps it (Windows refuses to delete it).
    if ((bytes > MAX_CACHE_BYTES || count > MAX_CACHE_FILES) && file.path !== keep)
      await rm(file.path, { force: true }).catch(() => undefined);
  }
}
