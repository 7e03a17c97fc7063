/** One commit with all files, or none: on top of the commit that was looked at before, and found again if its answer is lost. */
import { QdoraError } from "../formats/error.js";
import { isObject, quoted } from "../formats/json.js";
import { listFiles } from "./listing.js";
import { isCommit } from "./names.js";
import { headOf } from "./repository.js";
import { badAnswer, HubConflict, postOnce, type Sending } from "./send.js";
import { HubTrouble, withRetries } from "./trouble.js";
import type { Digests, UploadSource } from "./upload_source.js";

export interface CommitFile extends Digests {
  readonly source: UploadSource;
  /** On the storage already, named by its sha256; else its bytes go with the commit. */
  readonly isLarge: boolean;
}

export interface CommitRequest {
  readonly branch: string;
  readonly parent: string;
  /** First line: the summary; more lines: the description. */
  readonly message: string;
  readonly files: readonly CommitFile[];
}

/** Files that a commit has otherwise, or not at all. */
export async function missingAt(
  { settings, repo, retrying }: Sending,
  commit: string,
  files: readonly CommitFile[],
): Promise<{ readonly missing: readonly CommitFile[]; readonly paths: readonly string[] }> {
  const listed = await listFiles(settings, repo, commit, retrying);
  const hashes = new Map(listed.map(({ path, hash }) => [path, hash]));
  const missing = files.filter(({ source, sha256, gitSha1 }) => {
    const hash = hashes.get(source.path);
    return hash !== sha256 && hash !== gitSha1;
  });
  return { missing, paths: [...hashes.keys()] };
}

/** @returns the commit. @throws HubTrouble, QdoraError; then nothing was committed as far as the Hub says */
export async function commitFiles(sending: Sending, request: CommitRequest): Promise<string> {
  const { settings, repo, retrying } = sending;
  const url = `${settings.endpoint}/api/models/${repo.id}/commit/${encodeURIComponent(request.branch)}`;
  const body = await bodyOf(request);
  return withRetries(async () => {
    try {
      const post = { url, body, contentType: "application/x-ndjson", purpose: "commit" } as const;
      const json = await postOnce(sending, post, retrying.signal);
      const oid = isObject(json) ? json["commitOid"] : undefined;
      if (typeof oid === "string" && isCommit(oid)) return oid;
      throw badAnswer(settings, `names the new commit ${quoted(String(oid))}, which is no hash`);
    } catch (error) {
      const isUnsure = error instanceof HubTrouble || error instanceof HubConflict;
      if (!isUnsure || retrying.signal.aborted) throw error;
      // The answer may be lost, and the commit made.
      const made = await madeCommit(sending, request);
      if (made !== undefined) return made;
      throw error;
    }
  }, retrying);
}

/** The branch's commit if it has our files by now; undefined if the branch stands where it stood. @throws QdoraError */
export async function madeCommit(sending: Sending, request: CommitRequest): Promise<string | undefined> {
  const head = await headOf(sending, request.branch);
  if (!head || head.commit === request.parent) return undefined;
  const { missing } = await missingAt(sending, head.commit, request.files);
  if (missing.length === 0) return head.commit;
  throw new QdoraError(
    sending.repo.id,
    `somebody else committed to ${quoted(request.branch)} at the same time; nothing of this push was committed`,
    "run again; what was uploaded is not sent again",
  );
}

async function bodyOf({ parent, message, files }: CommitRequest): Promise<string> {
  const [summary = "", ...rest] = message.split("\n");
  const description = rest.join("\n").trim();
  const lines: unknown[] = [
    { key: "header", value: { summary: summary.trim(), description, parentCommit: parent } },
  ];
  for (const { source, sha256, isLarge } of files) {
    const { path, size } = source;
    if (isLarge) lines.push({ key: "lfsFile", value: { path, algo: "sha256", oid: sha256, size } });
    else {
      const content = Buffer.from(await source.read(0, size)).toString("base64");
      lines.push({ key: "file", value: { path, content, encoding: "base64" } });
    }
  }
  return `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`;
}
