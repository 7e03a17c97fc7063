/**
 * The cache of Python's huggingface_hub: `blobs/HASH`, `snapshots/COMMIT/FILE` as relative links to them,
 * `refs/REVISION` with a commit. Both tools read what the other wrote.
 */
import { randomBytes } from "node:crypto";
import { constants, existsSync } from "node:fs";
import { copyFile, readdir, rename, rm, stat, statfs, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { makeFolder } from "../formats/make_folder.js";
import { isObject, readJsonFile, readTextFile } from "../formats/json.js";
import type { RepoFile } from "./listing.js";
import { folderName, isCommit, pathProblem, type Repo } from "./names.js";
import type { HubSettings } from "./settings.js";

export interface RepoCache {
  readonly root: string;
  readonly folder: string;
  /** Where the lock of this repository lies. */
  readonly lock: string;
  readonly symlinks: boolean;
}

const MAX_TREE_BYTES = 64 * 2 ** 20;
const CACHE_TAG =
  "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by qdora.\n# For information about cache directory tags, see: https://bford.info/cachedir/\n";

export function repoCache(settings: HubSettings, repo: Repo): RepoCache {
  const { cacheDir: root, symlinks } = settings;
  const name = folderName(repo);
  return { root, folder: join(root, name), lock: join(root, ".locks", name, "qdora.lock"), symlinks };
}

export const blobPath = (cache: RepoCache, file: RepoFile): string => join(cache.folder, "blobs", file.hash);
export const snapshotPath = (cache: RepoCache, commit: string): string =>
  join(cache.folder, "snapshots", commit);
export const filePath = (cache: RepoCache, commit: string, file: RepoFile): string =>
  join(snapshotPath(cache, commit), ...file.path.split("/"));

/** A regular file of this size, links followed. */
export async function hasSize(path: string, size: number): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true && found.size === size;
}

/** The files that a commit's snapshot lacks. */
export async function missingFiles(
  cache: RepoCache,
  commit: string,
  files: readonly RepoFile[],
): Promise<readonly RepoFile[]> {
  const isThere = await Promise.all(files.map((file) => hasSize(filePath(cache, commit, file), file.size)));
  return files.filter((_, i) => isThere[i] !== true);
}

/** Makes the folders, and tells backup tools that this is a cache. @throws QdoraError */
export async function makeFolders(cache: RepoCache): Promise<void> {
  try {
    for (const path of [join(cache.folder, "blobs"), join(cache.folder, "snapshots"), dirname(cache.lock)])
      makeFolder(path);
  } catch (cause) {
    throw new QdoraError(cache.folder, "cannot be made", "set HF_HUB_CACHE to a folder that may be written", {
      cause,
    });
  }
  const tag = join(cache.root, "CACHEDIR.TAG");
  if (!existsSync(tag)) await writeFile(tag, CACHE_TAG).catch(() => undefined);
}

/** @throws QdoraError if the disk cannot take `bytes` more */
export async function checkDiskSpace(cache: RepoCache, bytes: number): Promise<void> {
  let folder = cache.folder;
  while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
  const disk = await statfs(folder).catch(() => undefined);
  if (!disk) return;
  const free = disk.bavail * disk.bsize;
  if (bytes <= free) return;
  throw new QdoraError(
    cache.root,
    `the disk has too little space: ${bytes} bytes are to come (limit ${free})`,
    "free some space, or set HF_HUB_CACHE to a folder on another disk",
  );
}

/** The commit that the cache knows for a revision. */
export async function cachedCommit(cache: RepoCache, revision: string): Promise<string | undefined> {
  if (isCommit(revision)) return revision;
  const path = join(cache.folder, "refs", ...revision.split("/"));
  // What is no commit is as good as nothing: the Hub is asked again.
  const text = await readTextFile(path, 1024).catch(() => "");
  return isCommit(text.trim()) ? text.trim() : undefined;
}

/** Notes what a revision was when it was last asked for. */
export async function writeRef(cache: RepoCache, revision: string, commit: string): Promise<void> {
  if (revision === commit || (await cachedCommit(cache, revision)) === commit) return;
  const path = join(cache.folder, "refs", ...revision.split("/"));
  makeFolder(dirname(path));
  await writeFileAtomic(path, commit);
}

/**
 * Puts a blob's content where the snapshot has the file: a relative link, or the file itself where links fail.
 * @param isNew nothing else needs the blob: it may be moved
 */
export async function placeFile(cache: RepoCache, blob: string, path: string, isNew: boolean): Promise<void> {
  makeFolder(dirname(path));
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    if (!(await link(cache, relative(dirname(path), blob), temporary))) {
      if (isNew) await rename(blob, temporary);
      else await copyFile(blob, temporary, constants.COPYFILE_FICLONE);
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new QdoraError(path, "cannot be written", "check the disk and the permissions of the cache", {
      cause,
    });
  }
}

async function link(cache: RepoCache, target: string, path: string): Promise<boolean> {
  if (!cache.symlinks) return false;
  try {
    await symlink(target, path, "file");
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (["EPERM", "EACCES", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL", "UNKNOWN"].includes(code))
      return false;
    throw error;
  }
}

export interface Snapshot {
  readonly files: ReadonlySet<string>;
  /** Links whose blobs are gone. */
  readonly broken: readonly string[];
}

/** What a snapshot in the cache holds, by path; undefined if there is no such snapshot. */
export async function readSnapshot(cache: RepoCache, commit: string): Promise<Snapshot | undefined> {
  const folder = snapshotPath(cache, commit);
  const names = await readdir(folder, { recursive: true }).catch(() => undefined);
  if (!names) return undefined;
  const files = new Set<string>();
  const broken: string[] = [];
  for (const name of names.map((text) => text.replaceAll("\\", "/"))) {
    const found = await stat(join(folder, name)).catch(() => undefined);
    if (!found) broken.push(name);
    else if (found.isFile()) files.add(name);
  }
  return { files, broken };
}

/** The files of a commit, as huggingface_hub may have noted them; undefined if it has not. */
export async function notedFiles(cache: RepoCache, commit: string): Promise<readonly RepoFile[] | undefined> {
  const path = join(cache.folder, "trees", `${commit}.json`);
  const json = existsSync(path) ? await readJsonFile(path, MAX_TREE_BYTES).catch(() => undefined) : undefined;
  if (!isObject(json) || json["format_version"] !== 1 || !isObject(json["files"])) return undefined;
  const noted: RepoFile[] = [];
  for (const [name, entry] of Object.entries(json["files"])) {
    if (pathProblem(name) !== undefined || !isObject(entry)) return undefined;
    const { lfs_sha256: sha256, lfs_size: large, size, blob_id: oid } = entry;
    const isLarge = typeof sha256 === "string";
    noted.push({
      path: name,
      size: Number(isLarge ? large : size),
      hash: isLarge ? sha256 : String(oid),
      algorithm: isLarge ? "sha256" : "git-sha1",
    });
  }
  return noted;
}
