/** A repository's files from the Hub into the cache. */
import { QdoraError } from "../formats/error.js";
import {
  blobPath,
  checkDiskSpace,
  filePath,
  hasSize,
  makeFolders,
  missingFiles,
  placeFile,
  snapshotPath,
  writeRef,
  type RepoCache,
} from "./cache.js";
import { downloadBlob } from "./download.js";
import type { RepoFile } from "./listing.js";
import { locate, type AtHub } from "./locate.js";
import { withLock } from "./lock.js";
import { portabilityProblem } from "./names.js";
import { inParallel } from "./parallel.js";
import { partialSize } from "./partial.js";
import { say, type PullOptions } from "./pull_options.js";

export interface Pulled {
  /** The snapshot's folder: looks like the repository. */
  readonly path: string;
  readonly commit: string;
}

/** Files at once. */
const WORKERS = 4;

/**
 * Pulls the files that are wanted and not there yet.
 * @param id `ORG/NAME`
 * @throws QdoraError
 */
export async function pull(id: string, options: PullOptions = {}): Promise<Pulled> {
  const found = await locate(id, options);
  if (found.at === "cache") return { path: found.path, commit: found.commit };
  const { repo, cache, commit, files } = found;
  for (const { path } of files) {
    const problem = portabilityProblem(path);
    if (problem !== undefined)
      throw new QdoraError(
        repo.id,
        `the file ${JSON.stringify(path)} ${problem}`,
        "leave it out with --exclude",
      );
  }
  await fetchFiles({ ...found, options });
  return { path: snapshotPath(cache, commit), commit };
}

/**
 * A data set's files, as `pull` does for models.
 * @param include globs of the files that are wanted; default all tables (Parquet, JSON, JSONL, CSV)
 */
export const pullDataset = (id: string, options: Omit<PullOptions, "type"> = {}): Promise<Pulled> =>
  pull(id, { ...options, type: "dataset" });

interface Fetching extends AtHub {
  readonly options: PullOptions;
}

async function fetchFiles(fetching: Fetching): Promise<void> {
  const { cache, repo, commit, revision, files, retrying, options } = fetching;
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const missing = await missingFiles(cache, commit, files);
  if (missing.length === 0) {
    options.listen?.({ type: "listed", repo: repo.id, commit, files: files.length, bytes, bytesToFetch: 0 });
    // The cache may be one that is only read.
    await writeRef(cache, revision, commit).catch(() => undefined);
    return;
  }
  await makeFolders(cache);
  const onWait = (holder: string): void => say(options, `${holder} pulls ${repo.id}, too: waiting for it`);
  await withLock(cache.lock, { signal: retrying.signal, onWait }, async () => {
    // The other process may have fetched them.
    const needed = await missingFiles(cache, commit, missing);
    const isThere = await Promise.all(needed.map((file) => hasSize(blobPath(cache, file), file.size)));
    const blobs = new Map(needed.filter((_, i) => isThere[i] !== true).map((file) => [file.hash, file]));
    const bytesToFetch = [...blobs.values()].reduce((sum, file) => sum + file.size, 0);
    options.listen?.({ type: "listed", repo: repo.id, commit, files: files.length, bytes, bytesToFetch });
    await fetchBlobs(fetching, [...blobs.values()], bytesToFetch);
    await placeFiles(fetching, needed, blobs);
    // A revision names a commit once all of its files are there.
    await writeRef(cache, revision, commit);
  });
}

/** Several at a time, the small ones first; the first failure stops the others, which keep what they have. */
async function fetchBlobs(fetching: Fetching, files: readonly RepoFile[], totalBytes: number): Promise<void> {
  const { cache, repo, commit, settings, retrying, options } = fetching;
  let fetchedBytes = 0;
  const queue = files.toSorted((a, b) => a.size - b.size);
  const positions = new Map<RepoFile, number>();
  await checkDiskSpace(cache, totalBytes - (await startedBytes(cache, queue)));
  await inParallel(queue, WORKERS, retrying.signal, async (file, signal) => {
    await downloadBlob(file, blobPath(cache, file), {
      ...retrying,
      signal,
      settings,
      repo,
      commit,
      onMessage: (text) => say(options, text),
      onBytes: (count) => (fetchedBytes += count),
      onPosition: (bytes) => {
        positions.set(file, bytes);
        const sum = [...positions.values()].reduce((a, b) => a + b, 0);
        options.listen?.({ type: "progress", bytes: sum, totalBytes, fetchedBytes });
      },
    });
    options.listen?.({ type: "file", path: file.path, bytes: file.size });
  });
}

/** Bytes of partial files, which need no room any more. */
async function startedBytes(cache: RepoCache, files: readonly RepoFile[]): Promise<number> {
  const sizes = await Promise.all(files.map((file) => partialSize(blobPath(cache, file), file.size)));
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** All files appear in the snapshot after all bytes are there. */
async function placeFiles(
  { cache, commit }: Fetching,
  files: readonly RepoFile[],
  fetched: ReadonlyMap<string, RepoFile>,
): Promise<void> {
  for (const file of files) {
    const users = files.filter((other) => other.hash === file.hash).length;
    const isNew = fetched.has(file.hash) && users === 1;
    await placeFile(cache, blobPath(cache, file), filePath(cache, commit, file), isNew);
  }
}
