/** Which commit a revision is, and which files it has: sizes and hashes, everything checked by shape. */
import { QdoraError } from "../formats/error.js";
import { isObject, quoted } from "../formats/json.js";
import { hubGet, readJsonAnswer, type Answer } from "./http.js";
import { isCommit, pathProblem, type Repo } from "./names.js";
import { refusalOf, type Question } from "./refusal.js";
import type { HubSettings } from "./settings.js";
import { withRetries, type Retrying } from "./trouble.js";

export interface RepoFile {
  /** Relative, with slashes; safe to become a path. */
  readonly path: string;
  readonly size: number;
  /** What the blob is called in the cache: sha256 of large files, git's sha1 of small ones. */
  readonly hash: string;
  readonly algorithm: "sha256" | "git-sha1";
}

const MAX_ANSWER_BYTES = 32 * 2 ** 20;
const MAX_PAGES = 500;
const MAX_FILES = 200_000;

const apiOf = ({ type, id }: Repo): string => `/api/${type}s/${id}`;

/** The commit that a revision names now. @throws QdoraError, HubTrouble */
export async function resolveCommit(
  settings: HubSettings,
  repo: Repo,
  revision: string,
  retrying: Retrying,
): Promise<string> {
  if (isCommit(revision)) return revision;
  const url = `${settings.endpoint}${apiOf(repo)}/revision/${encodeURIComponent(revision)}`;
  const { json } = await ask(settings, url, { repo, revision }, retrying);
  const sha = isObject(json) ? json["sha"] : undefined;
  if (typeof sha === "string" && isCommit(sha)) return sha;
  throw hostile(repo, `names the commit ${quoted(String(sha))}, which is no hash`);
}

/** All files of a commit. @throws QdoraError for a listing that cannot be trusted, HubTrouble */
export async function listFiles(
  settings: HubSettings,
  repo: Repo,
  commit: string,
  retrying: Retrying,
): Promise<readonly RepoFile[]> {
  const first = `${settings.endpoint}${apiOf(repo)}/tree/${commit}`;
  const files = new Map<string, RepoFile>();
  const seen = new Set<string>();
  for (let url: string | undefined = `${first}?recursive=true&expand=false`; url !== undefined;) {
    seen.add(url);
    const { json, headers } = await ask(settings, url, { repo, revision: commit }, retrying);
    if (!Array.isArray(json)) throw hostile(repo, "is no list of files");
    for (const entry of json as readonly unknown[]) {
      const file = readEntry(repo, entry);
      if (!file) continue;
      if (files.has(file.path)) throw hostile(repo, `has ${quoted(file.path)} twice`);
      files.set(file.path, file);
    }
    url = nextPage(repo, headers.get("link"), first);
    if (url !== undefined && seen.has(url)) throw hostile(repo, "leads back to a page that was read already");
    if (seen.size >= MAX_PAGES || files.size > MAX_FILES) throw hostile(repo, "does not come to an end");
  }
  return [...files.values()];
}

async function ask(
  settings: HubSettings,
  url: string,
  question: Question,
  retrying: Retrying,
): Promise<{ readonly json: unknown; readonly headers: Headers }> {
  return withRetries(async () => {
    const answer: Answer = await hubGet(settings, url, "question", retrying.signal);
    try {
      if (answer.response.status !== 200) throw refusalOf(answer, settings, question);
      const json = await readJsonAnswer(answer, settings, MAX_ANSWER_BYTES);
      return { json, headers: answer.response.headers };
    } finally {
      answer.close();
    }
  }, retrying);
}

const hostile = (repo: Repo, fact: string): QdoraError =>
  new QdoraError(
    repo.id,
    `the Hub's listing ${fact}`,
    "nothing was downloaded; is HF_ENDPOINT a Hub that you trust?",
  );

/** A file of the listing; undefined for folders. */
function readEntry(repo: Repo, entry: unknown): RepoFile | undefined {
  if (!isObject(entry) || typeof entry["path"] !== "string")
    throw hostile(repo, "has an entry without a path");
  const { path, type, oid, lfs } = entry;
  const problem = pathProblem(path);
  if (problem !== undefined) throw hostile(repo, `has the file ${quoted(path)}, which ${problem}`);
  if (type !== "file") return undefined;
  const large = isObject(lfs) ? lfs : undefined;
  const size = large ? large["size"] : entry["size"];
  const hash = large ? large["oid"] : oid;
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0)
    throw hostile(repo, `gives ${quoted(path)} the size ${quoted(String(size))}`);
  if (typeof hash !== "string" || !(large ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(hash))
    throw hostile(repo, `gives ${quoted(path)} the hash ${quoted(String(hash))}`);
  return { path: path, size, hash, algorithm: large ? "sha256" : "git-sha1" };
}

/** The `rel="next"` of a Link header: only its query is taken, and only from a link to the same listing. */
function nextPage(repo: Repo, link: string | null, first: string): string | undefined {
  if (link === null || link.length > 8192) return undefined;
  const [, target] = /<([^<>]*)>\s*;[^,]*\brel="?next"?/.exec(link) ?? [];
  if (target === undefined) return undefined;
  const want = new URL(first);
  const got = URL.canParse(target, first) ? new URL(target, first) : undefined;
  // A mirror passes the Hub's own links on.
  const isOurs = got && [want.origin, "https://huggingface.co"].includes(got.origin);
  if (!isOurs || !want.pathname.endsWith(got.pathname))
    throw hostile(repo, `goes on at ${quoted(target)}, which is not the listing`);
  return `${first}${got.search}`;
}
