/** Files to a model repository of the Hub, in one commit. Which files, and what they say, is the caller's choice. */
import { QdoraError } from "../formats/error.js";
import { quoted } from "../formats/json.js";
import { commitFiles, madeCommit, missingAt, type CommitFile, type CommitRequest } from "./commit.js";
import { uploadLarge } from "./lfs.js";
import { pathProblem, repoOf } from "./names.js";
import { pageOf } from "./refusal.js";
import { checkCard, largePaths } from "./preupload.js";
import { checkBranch, openBranch } from "./repository.js";
import { badAnswer, type Sending } from "./send.js";
import { hubSettings, type HubSettings } from "./settings.js";
import { HubTrouble } from "./trouble.js";
import { digestSource, openSource, type FileToPush, type UploadSource } from "./upload_source.js";

export type PushEvent =
  | { readonly type: "started"; readonly repo: string; readonly files: number; readonly bytes: number }
  /** `bytes` of the large files' bytes have gone out; `sentBytes` repeats included. */
  | {
      readonly type: "progress";
      readonly bytes: number;
      readonly totalBytes: number;
      readonly sentBytes: number;
    }
  | { readonly type: "file"; readonly path: string; readonly bytes: number }
  /** From here on a stop may come too late. */
  | { readonly type: "committing" }
  /** It was stopped, but the commit had been made. */
  | { readonly type: "late"; readonly commit: string }
  | { readonly type: "message"; readonly text: string };

export interface PushOptions {
  /** The branch to commit to; made if it is not there. Default "main". */
  readonly revision?: string | undefined;
  /** A new repository becomes private; one that is there must be. */
  readonly private?: boolean | undefined;
  /** The commit's message. */
  readonly message: string;
  /** Default: the environment's. */
  readonly settings?: HubSettings | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly listen?: ((event: PushEvent) => void) | undefined;
}

export interface Pushed {
  /** The repository's page, of the branch if that is not main. */
  readonly url: string;
  readonly commit: string;
}

/** Files that do not go to the storage go with the commit, in memory. */
const MAX_INLINE_BYTES = 64 * 2 ** 20;
const MAX_MESSAGE = 4096;

/**
 * Wrong names, texts and tokens, before anything is read or sent.
 * @throws QdoraError (exit 2 for names and texts)
 */
export async function checkPush(id: string, options: PushOptions): Promise<HubSettings> {
  repoOf(id, "model");
  checkBranch(options.revision ?? "main");
  const { message } = options;
  if (message.trim() === "" || message.length > MAX_MESSAGE || message.split("\n")[0]?.trim() === "")
    throw new QdoraError(
      "message",
      `needs a first line with text, and ${MAX_MESSAGE} characters at most, got ${message.length}`,
      "leave --message out for a usual one",
      { exitCode: 2 },
    );
  const settings = options.settings ?? (await hubSettings());
  if (settings.offline) throw new QdoraError("push", "HF_HUB_OFFLINE is set", "unset it to upload something");
  if (!settings.token)
    throw new QdoraError(
      "token",
      "there is none, and the Hub takes nothing without",
      `make one with write access on ${settings.endpoint}/settings/tokens and put it into HF_TOKEN`,
    );
  return settings;
}

/**
 * @param id `ORG/NAME`; made if it does not exist
 * @throws QdoraError; then nothing was committed, unless a "late" event said otherwise
 */
export async function pushFiles(
  id: string,
  files: readonly FileToPush[],
  options: PushOptions,
): Promise<Pushed> {
  const settings = await checkPush(id, options);
  const repo = repoOf(id, "model");
  const branch = options.revision ?? "main";
  const say = (text: string): void => options.listen?.({ type: "message", text });
  const signal = options.signal ?? new AbortController().signal;
  const sending: Sending = {
    settings,
    repo,
    retrying: {
      signal,
      onWait: (error, ms) => say(`${error.message}; trying again in ${Math.ceil(ms / 1000)} s`),
    },
  };
  const sources: UploadSource[] = [];
  try {
    for (const file of files) {
      const problem = pathProblem(file.path);
      if (problem !== undefined) throw new QdoraError(file.path, problem, "rename the file");
      sources.push(await openSource(file));
    }
    const commit = await push(sending, branch, sources, options);
    const page = pageOf(settings, repo);
    return { url: branch === "main" ? page : `${page}/tree/${encodeURIComponent(branch)}`, commit };
  } catch (error) {
    if (!(error instanceof HubTrouble) || signal.aborted) throw error;
    // What helps a download (the cache) does not help here.
    const fact = error.message.slice(error.area.length + 2);
    const hint = "check the network and HF_ENDPOINT, and run again: what was uploaded is not sent again";
    throw new QdoraError(error.area, fact, hint, { cause: error });
  } finally {
    await Promise.all(sources.map((source) => source.close()));
  }
}

async function push(
  sending: Sending,
  branch: string,
  sources: readonly UploadSource[],
  options: PushOptions,
): Promise<string> {
  const { retrying, repo, settings } = sending;
  const { listen } = options;
  const say = (text: string): void => listen?.({ type: "message", text });
  const bytes = sources.reduce((sum, { size }) => sum + size, 0);
  listen?.({ type: "started", repo: repo.id, files: sources.length, bytes });
  const parent = await openBranch(sending, branch, options.private === true, say);
  const large = await largePaths(sending, branch, sources);
  await checkCard(sending, sources);
  const all: CommitFile[] = [];
  for (const source of sources)
    all.push({
      source,
      isLarge: large.has(source.path),
      ...(await digestSource(source, retrying.signal)),
    });
  const { missing, paths } = await missingAt(sending, parent, all);
  warnOfOthers(paths, all, say);
  if (missing.length === 0) {
    say(`${repo.id}: has these files already`);
    return parent;
  }
  const inline = missing.filter((file) => !file.isLarge).reduce((sum, { source }) => sum + source.size, 0);
  if (inline > MAX_INLINE_BYTES)
    throw badAnswer(settings, `wants ${inline} bytes within the commit (limit ${MAX_INLINE_BYTES})`);
  await uploadAll(
    sending,
    branch,
    missing.filter((file) => file.isLarge),
    listen,
  );
  for (const { source } of missing) await source.checkUnchanged();
  retrying.signal.throwIfAborted();
  const request = { branch, parent, message: options.message, files: missing };
  listen?.({ type: "committing" });
  try {
    return await commitFiles(sending, request);
  } catch (error) {
    if (retrying.signal.aborted) await lookAgain(sending, request, listen);
    throw error;
  }
}

/** After a stop while the Hub was committing: did it? One question, of bounded time. */
async function lookAgain(
  sending: Sending,
  request: CommitRequest,
  listen: PushOptions["listen"],
): Promise<void> {
  const signal = AbortSignal.timeout(sending.settings.metadataTimeoutMs);
  const retrying = { signal, tries: 1, onWait: () => undefined };
  // Without an answer it stays open, which "committing" has said.
  const commit = await madeCommit({ ...sending, retrying }, request).catch(() => undefined);
  if (commit !== undefined) listen?.({ type: "late", commit });
}

async function uploadAll(
  sending: Sending,
  branch: string,
  files: readonly CommitFile[],
  listen: PushOptions["listen"],
): Promise<void> {
  const totalBytes = files.reduce((sum, { source }) => sum + source.size, 0);
  let [doneBytes, sentBytes] = [0, 0];
  for (const { source, sha256 } of files) {
    let last = 0;
    const isSent = await uploadLarge(sending, branch, { source, sha256 }, (bytes) => {
      sentBytes += Math.max(0, bytes - last);
      last = bytes;
      listen?.({ type: "progress", bytes: doneBytes + bytes, totalBytes, sentBytes });
    });
    doneBytes += source.size;
    if (isSent) listen?.({ type: "file", path: source.path, bytes: source.size });
    else listen?.({ type: "message", text: `${source.path}: the Hub has its bytes already` });
  }
}

/** Weights of an earlier push that this one neither replaces nor removes. */
function warnOfOthers(
  paths: readonly string[],
  files: readonly CommitFile[],
  say: (text: string) => void,
): void {
  const ours = new Set(files.map(({ source }) => source.path));
  const others = paths.filter((path) => /\.safetensors(\.index\.json)?$/.test(path) && !ours.has(path));
  if (others.length > 0)
    say(
      `warning: the repository also holds ${quoted(others[0] ?? "")}${others.length > 1 ? ` and ${others.length - 1} more weight files` : ""}, which stays; delete it there if it is of another model`,
    );
}
