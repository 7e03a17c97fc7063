/** Where a repository's files are: at the Hub, or in the cache alone where the Hub cannot be asked. */
import { QdoraError } from "../formats/error.js";
import { cachedCommit, notedFiles, readSnapshot, repoCache, snapshotPath, type RepoCache } from "./cache.js";
import { listFiles, resolveCommit, type RepoFile } from "./listing.js";
import { checkRevision, repoOf, type Repo } from "./names.js";
import { say, type PullOptions } from "./pull_options.js";
import { selectFiles } from "./select.js";
import { hubSettings, type HubSettings } from "./settings.js";
import { HubTrouble, type Retrying } from "./trouble.js";

export interface InCache {
  readonly at: "cache";
  /** The snapshot's folder. */
  readonly path: string;
  readonly commit: string;
}

export interface AtHub {
  readonly at: "hub";
  readonly settings: HubSettings;
  readonly repo: Repo;
  readonly cache: RepoCache;
  readonly revision: string;
  readonly commit: string;
  /** Those that are wanted. */
  readonly files: readonly RepoFile[];
  readonly retrying: Retrying;
}

/**
 * Asks the Hub for the commit and its files; without a network, or under HF_HUB_OFFLINE, looks into the cache.
 * @param id `ORG/NAME`
 * @throws QdoraError
 */
export async function locate(id: string, options: PullOptions): Promise<AtHub | InCache> {
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
  try {
    // Two tries say whether there is a network; with a copy in the cache, no more is to be won.
    const asking = { ...retrying, ...(isKnown && { tries: 2 }), triesUnreachable: 2 };
    const commit = await resolveCommit(settings, repo, revision, asking);
    const files = selectFiles(repo, await listFiles(settings, repo, commit, asking), options);
    return { at: "hub", settings, repo, cache, revision, commit, files, retrying };
  } catch (error) {
    if (!(error instanceof HubTrouble) || signal.aborted) throw error;
    return fromCache(cache, repo, revision, options, error);
  }
}

/** What the cache has, said so. @param cause why the Hub was not asked; undefined = HF_HUB_OFFLINE */
async function fromCache(
  cache: RepoCache,
  repo: Repo,
  revision: string,
  options: PullOptions,
  cause: HubTrouble | undefined,
): Promise<InCache> {
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
  return { at: "cache", path: snapshotPath(cache, commit), commit };
}
