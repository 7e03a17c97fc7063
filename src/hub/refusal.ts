/** What an answer that is no success means, and what to do about it. */
import { QdoraError } from "../formats/error.js";
import { quoted } from "../formats/json.js";
import type { Answer } from "./http.js";
import type { Repo } from "./names.js";
import type { HubSettings } from "./settings.js";
import { HubTrouble, parseRetryAfter } from "./trouble.js";

/** What was asked for. */
export interface Question {
  readonly repo: Repo;
  readonly revision: string;
  readonly file?: string;
}

/** The address of a repository's page. */
export const pageOf = (settings: HubSettings, { type, id }: Repo): string =>
  `${settings.endpoint}/${type === "dataset" ? "datasets/" : ""}${id}`;

/** The error for an answer. */
export function refusalOf(answer: Answer, settings: HubSettings, question: Question): QdoraError {
  const { status, headers } = answer.response;
  const { repo, revision, file } = question;
  if (status === 429 || status >= 500 || status === 408) {
    const fact = status === 429 ? "asks for fewer requests (429)" : `fails (${status})`;
    return new HubTrouble(
      new URL(settings.endpoint).host,
      `${answer.isHub ? "the Hub" : "the storage behind the Hub"} ${fact}`,
      status === 429 && !settings.token
        ? "wait some minutes; with a token (HF_TOKEN) more requests are allowed"
        : "try again later; HF_HUB_OFFLINE=1 uses what is in the cache",
      { retryAfterMs: parseRetryAfter(headers.get("retry-after")) },
    );
  }
  // A signed address that has expired: the next try asks the Hub for a new one.
  if (!answer.isHub) {
    return new HubTrouble(
      file ?? repo.id,
      `the storage behind the Hub refuses it (${status})`,
      "try again; a proxy may stand in between",
    );
  }
  const code = headers.get("x-error-code") ?? "";
  const message = cleanMessage(headers.get("x-error-message") ?? "", settings);
  if (code === "GatedRepo") return gated(settings, repo);
  if (code === "RevisionNotFound")
    return new QdoraError(
      repo.id,
      `has no revision ${quoted(revision)}`,
      "name a branch, a tag or a commit with --revision",
    );
  if (code === "EntryNotFound")
    return new QdoraError(
      repo.id,
      `has no file ${quoted(file ?? "")} at ${quoted(revision)}`,
      "look at the repository's page",
    );
  if (status === 401 && /invalid (credentials|username|token)/i.test(message) && settings.token)
    return new QdoraError(
      "token",
      `the Hub does not know the token in ${settings.token.source}`,
      "make a new one in the Hub's settings, or leave it out for public models",
    );
  if (code === "RepoNotFound" || status === 401 || status === 404) return notFound(settings, repo);
  if (status === 403 || status === 451)
    return new QdoraError(
      repo.id,
      `the Hub refuses it (${status}${message ? `: ${message}` : ""})`,
      `open ${pageOf(settings, repo)} to see why`,
    );
  return new QdoraError(
    new URL(settings.endpoint).host,
    `answers ${status}${message ? `: ${message}` : ""}`,
    "is HF_ENDPOINT a Hub?",
  );
}

function gated(settings: HubSettings, repo: Repo): QdoraError {
  const page = pageOf(settings, repo);
  return new QdoraError(
    repo.id,
    settings.token
      ? `is gated, and the account of the token in ${settings.token.source} has no access`
      : "is gated: its owners want to know who uses it",
    settings.token
      ? `accept the conditions on ${page}; the token must allow gated repositories`
      : `accept the conditions on ${page}, then set HF_TOKEN to a token of that account`,
  );
}

const notFound = (settings: HubSettings, repo: Repo): QdoraError =>
  new QdoraError(
    repo.id,
    `no such ${repo.type} on ${new URL(settings.endpoint).host}, or it is private`,
    settings.token
      ? `check the name; the token in ${settings.token.source} may not read it`
      : "check the name; for a private one set HF_TOKEN",
  );

/** A server's own words: short, printable, without the token. */
export function cleanMessage(text: string, settings: HubSettings): string {
  const safe = settings.token ? text.replaceAll(settings.token.value, "***") : text;
  return safe
    .replaceAll(/[\p{Cc}\p{Cf}]/gu, " ")
    .slice(0, 200)
    .trim();
}
