/** Questions that change something on the Hub, and what their refusals mean: rights, names, conflicts. */
import { QdoraError } from "../formats/error.js";
import { decodeUtf8, isObject } from "../formats/json.js";
import { hubPost, readJsonAnswer, type Answer, type Purpose } from "./http.js";
import type { Repo } from "./names.js";
import { cleanMessage } from "./refusal.js";
import type { HubSettings } from "./settings.js";
import { HubTrouble, parseRetryAfter, withRetries, type Retrying } from "./trouble.js";

export interface Sending {
  readonly settings: HubSettings;
  readonly repo: Repo;
  readonly retrying: Retrying;
}

/** The Hub says that something is there already, or is not what it was. */
export class HubConflict extends QdoraError {}

/** What was asked for is not there. */
export class HubMissing extends QdoraError {}

export interface Post {
  readonly url: string;
  readonly body: string;
  readonly contentType?: string;
  readonly purpose?: Purpose;
}

export const JSON_TYPE = "application/json";
export const LFS_TYPE = "application/vnd.git-lfs+json";
const MAX_ANSWER_BYTES = 8 * 2 ** 20;
const MAX_ERROR_BYTES = 1 << 16;

/** The JSON answer, undefined for an empty one. @throws HubTrouble, HubConflict, QdoraError */
export async function postOnce(
  { settings, repo }: Sending,
  { url, body, contentType = JSON_TYPE, purpose = "question" }: Post,
  signal: AbortSignal,
): Promise<unknown> {
  const answer = await hubPost(settings, url, purpose, signal, { body, contentType });
  try {
    const { ok, status, headers } = answer.response;
    if (!ok) throw writeRefusal(answer, await errorText(answer, settings), settings, repo);
    if (status === 204 || headers.get("content-length") === "0") return undefined;
    return await readJsonAnswer(answer, settings, MAX_ANSWER_BYTES);
  } finally {
    answer.close();
  }
}

/** `postOnce`, repeated while the network or the server fails: for questions that may be asked twice. */
export const postJson = (sending: Sending, post: Post): Promise<unknown> =>
  withRetries(() => postOnce(sending, post, sending.retrying.signal), sending.retrying);

/** What the server says about its refusal, in the body or a header; "" if it says nothing readable. */
async function errorText(answer: Answer, settings: HubSettings): Promise<string> {
  const header = answer.response.headers.get("x-error-message");
  if (header) return cleanMessage(header, settings);
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const part of answer.body()) {
      size += part.byteLength;
      if (size > MAX_ERROR_BYTES) return "";
      parts.push(part);
    }
    const json: unknown = JSON.parse(decodeUtf8(Buffer.concat(parts), "answer"));
    // The check of cards has a list.
    const [first] = isObject(json) && Array.isArray(json["errors"]) ? (json["errors"] as unknown[]) : [];
    const said = isObject(first) ? first["message"] : isObject(json) ? json["error"] : undefined;
    return typeof said === "string" ? cleanMessage(said, settings) : "";
  } catch {
    // Its words only decorate the status, which is reported in any case.
    return "";
  }
}

function writeRefusal(answer: Answer, text: string, settings: HubSettings, repo: Repo): QdoraError {
  const { status, headers } = answer.response;
  const { host } = new URL(settings.endpoint);
  const said = text ? `: ${text}` : "";
  const source = settings.token?.source ?? "HF_TOKEN";
  const [owner = ""] = repo.id.split("/");
  if (status === 429 || status === 408 || status >= 500)
    return new HubTrouble(
      host,
      status === 429 ? "the Hub asks for fewer requests (429)" : `the Hub fails (${status})`,
      "try again later; what was uploaded is not sent again",
      { retryAfterMs: parseRetryAfter(headers.get("retry-after")) },
    );
  if (status === 401)
    return new QdoraError(
      "token",
      `the Hub does not accept the token in ${source} (401${said})`,
      `make a token with write access on ${settings.endpoint}/settings/tokens`,
    );
  if (status === 403)
    return new QdoraError(
      repo.id,
      `the token in ${source} may not write there (403${said})`,
      `use a token with write access to ${owner} (${settings.endpoint}/settings/tokens), or a name under your own account`,
    );
  if (status === 409 || status === 412)
    return new HubConflict(repo.id, `the Hub has a conflict (${status}${said})`, "run again");
  if (status === 404)
    return new HubMissing(repo.id, `the Hub does not find it (404${said})`, "check the name, and run again");
  return new QdoraError(
    repo.id,
    `the Hub refuses the upload (${status}${said})`,
    "its words say why; nothing was committed",
  );
}

/** @throws always: the Hub's answer has another form than its API */
export const badAnswer = (settings: HubSettings, fact: string): QdoraError =>
  new QdoraError(new URL(settings.endpoint).host, fact, "is HF_ENDPOINT a Hub? nothing was committed");
