/** The address of a file at the Hub, and what an answer with its bytes must say. */
import { QdoraError } from "../formats/error.js";
import { quoted } from "../formats/json.js";
import type { Answer } from "./http.js";
import type { RepoFile } from "./listing.js";
import type { Repo } from "./names.js";
import { pageOf } from "./refusal.js";
import type { HubSettings } from "./settings.js";
import { HubTrouble } from "./trouble.js";

/** Redirects to a storage server for large files. */
export function fileUrl(settings: HubSettings, repo: Repo, commit: string, path: string): string {
  return `${pageOf(settings, repo)}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/** What the Hub itself says about the file must be what its listing says. @throws QdoraError */
export function checkHubHeaders(file: RepoFile, commit: string, answer: Answer): void {
  const { hubHeaders: headers } = answer;
  const differs = (what: string, got: string): QdoraError =>
    new QdoraError(
      file.path,
      `the Hub's answer has the ${what} ${quoted(got)}, its listing another`,
      "try again; is HF_ENDPOINT a Hub that you trust?",
    );
  const linked = headers.get("x-linked-etag");
  if (linked !== null && bareTag(linked) !== file.hash) throw differs("ETag", linked);
  const size = headers.get("x-linked-size");
  if (size !== null && size !== String(file.size)) throw differs("size", size);
  const other = headers.get("x-repo-commit");
  if (other !== null && other !== commit) throw differs("commit", other);
}

const bareTag = (tag: string): string => tag.replace(/^W\//, "").replaceAll('"', "");

/** A whole file's answer must have the file's length. @throws HubTrouble */
export function checkLength(file: RepoFile, headers: Headers): void {
  const length = headers.get("content-length");
  if (length === null || headers.has("content-encoding") || length === String(file.size)) return;
  throw new HubTrouble(
    file.path,
    `${length} bytes are sent, but it has ${file.size}`,
    "a proxy or login page may stand in between",
  );
}

/** Whether a part's answer begins at `start` of a file of this size. */
export function isRange(headers: Headers, start: number, size: number): boolean {
  const [, first, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get("content-range") ?? "") ?? [];
  return Number(first) === start && (total === "*" || Number(total) === size);
}
