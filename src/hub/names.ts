/** Names from outside before they become paths or URLs: repositories, revisions, commits, files. */
import { QdoraError } from "../formats/error.js";
import { quoted } from "../formats/json.js";

export type RepoType = "model" | "dataset";

export interface Repo {
  readonly type: RepoType;
  /** `ORG/NAME`, or `NAME` for the few that have no owner. */
  readonly id: string;
}

const COMMIT = /^[0-9a-f]{40}$/;
const SEGMENT = /^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$/;

export const isCommit = (text: string): boolean => COMMIT.test(text);

/** Whether a text can name a repository as `ORG/NAME`: the Hub's own rules. */
export function isRepoId(text: string): boolean {
  const parts = text.split("/");
  return (
    parts.length === 2 &&
    text.length <= 96 &&
    !text.includes("--") &&
    !text.includes("..") &&
    !text.endsWith(".git") &&
    parts.every((part) => SEGMENT.test(part))
  );
}

/** @throws QdoraError (exit 2) for what cannot be a repository */
export function repoOf(id: string, type: RepoType): Repo {
  if (isRepoId(id)) return { type, id };
  throw new QdoraError(
    type,
    `${quoted(id)} is not a name of the form ORG/NAME`,
    "letters, digits, and - _ . inside, as the Hub's pages show it",
    { exitCode: 2 },
  );
}

/** The folder of a repository in the cache: `models--ORG--NAME`. */
export const folderName = (repo: Repo): string => [`${repo.type}s`, ...repo.id.split("/")].join("--");

/** @throws QdoraError (exit 2) for what cannot be a branch, tag or commit; a revision becomes a path below `refs` */
export function checkRevision(revision: string): string {
  const problem =
    pathProblem(revision) ?? (/[ ~^:?*[\]]/.test(revision) ? "has a character that git refuses" : undefined);
  if (problem === undefined) return revision;
  throw new QdoraError("revision", `${quoted(revision)} ${problem}`, "name a branch, a tag or a commit", {
    exitCode: 2,
  });
}

/** Why a relative path from outside would lead elsewhere than below its folder; undefined if it would not. */
export function pathProblem(path: string): string | undefined {
  if (path === "") return "is empty";
  if (Buffer.byteLength(path) > 1024) return "is longer than 1024 bytes";
  // Control characters, and halves of surrogate pairs that no file system keeps.
  if (/[\p{Cc}\p{Cs}\u2028\u2029]/u.test(path)) return "has control characters";
  if (path.includes("\\")) return "has a backslash";
  if (path.startsWith("/")) return "is an absolute path";
  if (/^[A-Za-z]:/.test(path)) return "has a drive letter";
  const segments = path.split("/");
  if (segments.some((s) => s === "" || s === "." || s === "..")) return "has an empty, . or .. part";
  if (segments.some((s) => Buffer.byteLength(s) > 255)) return "has a part longer than 255 bytes";
  return undefined;
}

/** Why Windows would take a file name for something else; refused everywhere, for caches are shared. */
export function portabilityProblem(path: string): string | undefined {
  for (const segment of path.split("/")) {
    if (/[<>:"|?*]/.test(segment)) return "has a character that Windows refuses";
    if (/[. ]$/.test(segment)) return "has a part that ends with a dot or a space";
    if (/^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(\.|$)/i.test(segment)) return "is a device on Windows";
  }
  return undefined;
}
