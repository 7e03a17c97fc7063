/** A repository's files from the Hub into the cache, or the cache alone where the Hub cannot be asked. */
import { QdoraError } from "../formats/error.js";
import {
  blobPath,
  cachedCommit,
  checkDiskSpace,
  filePath,
  hasSize,
  makeFolders,
  notedFiles,
  placeFile,
  readSnapshot,
  repoCache,
  snapshotPath,
  writeRef,
  type RepoCache,
} from "./cache.js";
import { downloadBlob } from "./download.js";
import { listFiles, resolveCommit, type RepoFile } from "./listing.js";
import { withLock } from "./lock.js";
import { checkRevision, portabilityProblem, repoOf, type Repo, type RepoType } from "./names.js";
import { partialSize } from "./partial.js";
import { selectFiles, type Selection } from "./select.js";
import { hubSettings, type HubSettings } from "./settings.js";
import { HubTrouble, type Retrying } from "./trouble.js";

export interface PullOptions extends Selection {
  /** Default "model". */
  readonly type?: RepoType | undefined;
  /** Branch, tag or commit; default "main". */
  readonly revision?: string | undefined;
  /** Default: the environment's. */
  readonly settings?: HubSettings | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly listen?: ((event: PullEvent) => void) | undefined;
}

export interface Pulled {
  /** The snapshot's folder: looks like the repository. */
  readonly path: string;
  readonly commit: string;
}

export type PullEvent =
  | {
      readonly type: "listed";
      readonly repo: string;
      readonly commit: string;
      readonly files: number;
      readonly bytes: number;
      readonly bytesToFetch: number;
    }
  /** `bytes` of the bytes to fetch are there; `fetchedBytes` came over the network, repeats included. */
  | {
      readonly type: "progress";
      readonly bytes: number;
      readonly totalBytes: number;
      readonly fetchedBytes: number;
    }
  | { readonly type: "file"; readonly path: string; readonly bytes: number }
  | { readonly type: "message"; readonly text: string };

/** Files at once. */
const WORKERS = 4;

/**
 * Pulls the files that are wanted and not there yet.
 * @param id `ORG/NAME`
 * @throws QdoraError
 */
export async function pull(id: string, options: PullOptions = {}): Promise<Pulled> {
  const repo = repoOf(id, options.type ?? "model");
  const revision = checkRevision(options.revision ?? "main");
  const settings = options.settings ?? (await hubSettings());
  const cache = repoCache(settings, repo);
  if (settings.offline) return fromCache(cache, repo, revision, options, undefined);
  const signal = options.signal ?? new AbortController().signal;
  const isKnown = (await cachedCommit(cache, revision)) !== undefined;
  const retrying: Retrying = {
    signal,
    onWait: (error, ms) => say(options, `${error.message}; trying again in ${Math.ceil(ms / 1000)} s`),
  };
  let commit: string;
  let files: readonly RepoFile[];
  try {
    // With a copy in the cache, one try says whether there is a network.
    const asking = isKnown ? { ...retrying, tries: 2 } : retrying;
    commit = await resolveCommit(settings, repo, revision, asking);
    files = selectFiles(repo, await listFiles(settings, repo, commit, asking), options);
  } catch (error) {
    if (!(error instanceof HubTrouble) || signal.aborted) throw error;
    return fromCache(cache, repo, revision, options, error);
  }
  for (const { path } of files) {
    const problem = portabilityProblem(path);
    if (problem !== undefined)
      throw new QdoraError(
        repo.id,
        `the file ${JSON.stringify(path)} ${problem}`,
        "leave it out with --exclude",
      );
  }
  await fetchFiles({ settings, repo, cache, commit, revision, files, retrying, options });
  return { path: snapshotPath(cache, commit), commit };
}

/**
 * A data set's files, as `pull` does for models.
 * @param include globs of the files that are wanted; default all tables (Parquet, JSON, JSONL, CSV)
 */
export const pullDataset = (id: string, options: Omit<PullOptions, "type"> = {}): Promise<Pulled> =>
  pull(id, { ...options, type: "dataset" });

const say = (options: PullOptions, text: string): void => options.listen?.({ type: "message", text });

interface Fetching {
  readonly settings: HubSettings;
  readonly repo: Repo;
  readonly cache: RepoCache;
  readonly commit: string;
  readonly revision: string;
  readonly files: readonly RepoFile[];
  readonly retrying: Retrying;
  readonly options: PullOptions;
}

const missingOf = async ({ cache, commit }: Fetching, files: readonly RepoFile[]): Promise<RepoFile[]> => {
  const isThere = await Promise.all(files.map((file) => hasSize(filePath(cache, commit, file), file.size)));
  return files.filter((_, i) => isThere[i] !== true);
};

async function fetchFiles(fetching: Fetching): Promise<void> {
  const { cache, repo, commit, revision, files, retrying, options } = fetching;
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const missing = await missingOf(fetching, files);
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
    const needed = await missingOf(fetching, missing);
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
  const stop = new AbortController();
  const { signal } = stop;
  const stopAll = (): void => stop.abort(retrying.signal.reason);
  if (retrying.signal.aborted) stopAll();
  retrying.signal.addEventListener("abort", stopAll);
  let fetchedBytes = 0;
  const queue = files.toSorted((a, b) => a.size - b.size);
  const positions = new Map<RepoFile, number>();
  await checkDiskSpace(cache, totalBytes - (await startedBytes(cache, queue)));
  const work = async (): Promise<void> => {
    for (let file = queue.shift(); file; file = queue.shift()) {
      const current = file;
      await downloadBlob(current, blobPath(cache, current), {
        ...retrying,
        signal,
        settings,
        repo,
        commit,
        onMessage: (text) => say(options, text),
        onBytes: (count) => (fetchedBytes += count),
        onPosition: (bytes) => {
          positions.set(current, bytes);
          const sum = [...positions.values()].reduce((a, b) => a + b, 0);
          options.listen?.({ type: "progress", bytes: sum, totalBytes, fetchedBytes });
        },
      });
      options.listen?.({ type: "file", path: current.path, bytes: current.size });
    }
  };
  let failure: { readonly error: unknown } | undefined;
  const workers = Array.from({ length: Math.min(WORKERS, queue.length) }, () =>
    work().catch((error: unknown) => {
      failure ??= { error };
      stop.abort(error);
    }),
  );
  await Promise.all(workers);
  retrying.signal.removeEventListener("abort", stopAll);
  if (failure) throw failure.error;
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

/** What the cache has, said so. @param cause why the Hub was not asked; undefined = HF_HUB_OFFLINE */
async function fromCache(
  cache: RepoCache,
  repo: Repo,
  revision: string,
  options: PullOptions,
  cause: HubTrouble | undefined,
): Promise<Pulled> {
  const commit = await cachedCommit(cache, revision);
  const found = commit === undefined ? undefined : await readSnapshot(cache, commit);
  if (commit === undefined || found === undefined || found.files.size === 0) {
    if (cause) throw cause;
    throw new QdoraError(
      repo.id,
      `revision ${JSON.stringify(revision)} is not in the cache ${cache.root}, and HF_HUB_OFFLINE is set`,
      "unset HF_HUB_OFFLINE to download it",
    );
  }
  const noted = await notedFiles(cache, commit);
  const wanted = noted ? selectFiles(repo, noted, options).map(({ path }) => path) : [];
  const missing = found.broken[0] ?? wanted.find((path) => !found.files.has(path));
  if (missing !== undefined)
    throw new QdoraError(
      repo.id,
      `the copy in the cache lacks ${JSON.stringify(missing)}, and the Hub was not asked`,
      cause ? (cause.hint ?? "try again with a network") : "unset HF_HUB_OFFLINE to download it",
      { cause },
    );
  say(
    options,
    cause
      ? `${cause.message}; using the copy of ${repo.id} in the cache, commit ${commit.slice(0, 12)}`
      : `offline: using the copy of ${repo.id} in the cache, commit ${commit.slice(0, 12)}`,
  );
  return { path: snapshotPath(cache, commit), commit };
}
