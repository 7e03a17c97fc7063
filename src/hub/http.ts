/** One request to the Hub: bounded waits, bounded redirects, and the token for the Hub's own origin alone. Files go out in put.ts. */
import { QdoraError } from "../formats/error.js";
import { decodeUtf8, quoted } from "../formats/json.js";
import type { HubSettings } from "./settings.js";
import { HubTrouble } from "./trouble.js";

/** Errors before there is a connection, which a moment later are mostly the same. */
const UNREACHABLE = ["ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH", "ENETDOWN"];
const MAX_REDIRECTS = 5;
/** Slower than this is a connection that hangs. */
const LEAST_BYTES_PER_SECOND = 100;

export interface Answer {
  readonly response: Response;
  /** Headers of the last answer that came from the Hub's own origin: storage servers have other ETags. */
  readonly hubHeaders: Headers;
  /** Whether the Hub itself gave the answer. */
  readonly isHub: boolean;
  /** The answer's body in pieces. @throws HubTrouble when it is cut, stalls or drips */
  body(): AsyncGenerator<Uint8Array>;
  /** Ends the connection. */
  close(): void;
}

/** A host for messages: the query of a signed URL is a secret, too. */
export const placeOf = (url: URL): string => quoted(url.host).slice(1, -1);

export function networkTrouble(url: URL, cause: unknown): HubTrouble {
  const inner: unknown = cause instanceof Error && cause.cause !== undefined ? cause.cause : cause;
  const reason = inner instanceof Error ? inner.message.slice(0, 100) : "";
  const code = inner instanceof Error && "code" in inner ? String(inner.code) : reason;
  const isCertificate = /CERT|SSL|TLS|ISSUER/.test(code);
  return new HubTrouble(
    placeOf(url),
    `cannot be reached${code ? ` (${code})` : ""}`,
    isCertificate
      ? "its certificate is not trusted; NODE_EXTRA_CA_CERTS=FILE adds one, e.g. a company proxy's"
      : "check the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is in the cache",
    { cause, isUnreachable: UNREACHABLE.includes(code) },
  );
}

export const stalled = (url: URL, what: string, ms: number, variable: string): HubTrouble =>
  new HubTrouble(
    placeOf(url),
    `${what} for ${ms / 1000} s`,
    `check the network, or raise ${variable} (seconds)`,
  );

/** A redirect's goal. @throws QdoraError for one that must not be followed */
function redirectGoal(from: URL, location: string | null): URL {
  const refuse = (fact: string): QdoraError =>
    new QdoraError(placeOf(from), fact, "is HF_ENDPOINT right? a proxy or login page may stand in between");
  if (location === null || !URL.canParse(location, from.href))
    throw refuse("redirects to something that is no address");
  const to = new URL(location, from);
  if (to.protocol !== "https:" && to.protocol !== "http:")
    throw refuse(`redirects to ${quoted(to.protocol)}`);
  if (from.protocol === "https:" && to.protocol === "http:") throw refuse("redirects from https to http");
  if (to.username !== "" || to.password !== "") throw refuse("redirects to an address with a password");
  return to;
}

/** What an answer is waited for: it says how long. A commit takes its time, and its request brings files with it. */
export type Purpose = "question" | "file" | "commit";

const COMMIT_PATIENCE = 12;

function patienceOf(settings: HubSettings, purpose: Purpose): readonly [number, string] {
  switch (purpose) {
    case "file":
      return [settings.idleTimeoutMs, "HF_HUB_DOWNLOAD_TIMEOUT"];
    case "question":
      return [settings.metadataTimeoutMs, "HF_HUB_ETAG_TIMEOUT"];
    case "commit":
      return [COMMIT_PATIENCE * settings.metadataTimeoutMs, "HF_HUB_ETAG_TIMEOUT"];
    default:
      return purpose satisfies never;
  }
}

/**
 * GET, following redirects.
 * @param purpose which timeout counts until an answer begins
 * @param headers for every hop; the token is added where it belongs
 * @throws HubTrouble if the network fails, QdoraError for a hostile redirect; an answer of any status is returned
 */
export const hubGet = (
  settings: HubSettings,
  start: string,
  purpose: Purpose,
  signal: AbortSignal,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> => hubRequest(settings, start, purpose, signal, headers, undefined);

/**
 * POST. A redirect is followed with the same body and within the same origin only: what is sent may be private.
 * @throws HubTrouble if the network fails, QdoraError for a redirect to elsewhere; an answer of any status is returned
 */
export const hubPost = (
  settings: HubSettings,
  start: string,
  purpose: Purpose,
  signal: AbortSignal,
  post: { readonly body: string; readonly contentType: string },
): Promise<Answer> =>
  hubRequest(
    settings,
    start,
    purpose,
    signal,
    { "content-type": post.contentType, accept: post.contentType.replace("x-ndjson", "json") },
    post.body,
  );

/** @param body of a POST; undefined = GET */
async function hubRequest(
  settings: HubSettings,
  start: string,
  purpose: Purpose,
  signal: AbortSignal,
  headers: Readonly<Record<string, string>>,
  body: string | undefined,
): Promise<Answer> {
  const home = new URL(settings.endpoint).origin;
  const [patienceMs, variable] = patienceOf(settings, purpose);
  let url = new URL(start);
  let isHome = url.origin === home;
  let hubHeaders = new Headers();
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const stop = new AbortController();
    const outer = (): void => stop.abort(signal.reason);
    if (signal.aborted) outer();
    signal.addEventListener("abort", outer);
    const close = (): void => {
      signal.removeEventListener("abort", outer);
      stop.abort();
    };
    const token = isHome ? settings.token : undefined;
    const request = {
      "user-agent": "qdora",
      "accept-encoding": "identity",
      ...headers,
      ...(token && { authorization: `Bearer ${token.value}` }),
    };
    const tooLate = stalled(url, "gives no answer", patienceMs, variable);
    const timer = setTimeout(() => stop.abort(tooLate), patienceMs);
    let response: Response;
    try {
      response = await fetch(url, {
        headers: request,
        redirect: "manual",
        signal: stop.signal,
        ...(body !== undefined && { method: "POST", body }),
      });
    } catch (cause) {
      close();
      if (signal.aborted) throw signal.reason;
      throw stop.signal.reason === tooLate ? tooLate : networkTrouble(url, cause);
    } finally {
      clearTimeout(timer);
    }
    if (isHome) hubHeaders = response.headers;
    if (![301, 302, 303, 307, 308].includes(response.status)) {
      const at = url;
      const pieces = (): AsyncGenerator<Uint8Array> =>
        piecesOf(response, at, settings.idleTimeoutMs, stop, signal);
      return { response, hubHeaders, isHub: isHome, body: pieces, close };
    }
    close();
    const from = url;
    url = redirectGoal(from, response.headers.get("location"));
    if (body !== undefined && (url.origin !== from.origin || response.status < 307))
      throw new QdoraError(
        placeOf(from),
        `redirects what is sent to ${placeOf(url)}, and was not followed`,
        "is HF_ENDPOINT right, and the repository's name the present one?",
      );
    // Once the request has left the Hub it is no longer the Hub that says where to go.
    isHome &&= url.origin === home;
  }
  throw new QdoraError(
    placeOf(new URL(start)),
    `redirects more than ${MAX_REDIRECTS} times`,
    "is HF_ENDPOINT right? a proxy may stand in between",
  );
}

/** The body, watched while it is waited for; a slow reader of ours does not count. */
async function* piecesOf(
  response: Response,
  url: URL,
  idleMs: number,
  stop: AbortController,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) return;
  const tooSlow = stalled(url, "sends nothing, or next to nothing,", idleMs, "HF_HUB_DOWNLOAD_TIMEOUT");
  let [waitedMs, bytes] = [0, 0];
  try {
    for (;;) {
      const timer = setTimeout(() => stop.abort(tooSlow), idleMs);
      const began = performance.now();
      let part: { readonly done: boolean; readonly value?: unknown };
      try {
        part = await reader.read();
      } catch (cause) {
        if (signal.aborted) throw signal.reason;
        throw stop.signal.reason === tooSlow ? tooSlow : cut(url, cause);
      } finally {
        clearTimeout(timer);
      }
      if (part.done) return;
      if (!(part.value instanceof Uint8Array)) throw cut(url, undefined);
      waitedMs += performance.now() - began;
      bytes += part.value.byteLength;
      yield part.value;
      if (waitedMs < idleMs) continue;
      if (bytes < (LEAST_BYTES_PER_SECOND * waitedMs) / 1000) throw tooSlow;
      [waitedMs, bytes] = [0, 0];
    }
  } finally {
    stop.abort();
    await reader.cancel().catch(() => undefined);
  }
}

export const cut = (url: URL, cause: unknown): HubTrouble =>
  new HubTrouble(placeOf(url), "cut the connection", "check the network, and try again", { cause });

/** A JSON answer of at most `maxBytes`, whole within six times the metadata timeout. @throws HubTrouble, QdoraError */
export async function readJsonAnswer(
  answer: Answer,
  settings: HubSettings,
  maxBytes: number,
): Promise<unknown> {
  const where = placeOf(new URL(settings.endpoint));
  const deadline = performance.now() + 6 * settings.metadataTimeoutMs;
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of answer.body()) {
    size += part.byteLength;
    if (size > maxBytes)
      throw new QdoraError(where, `answers with more than ${maxBytes} bytes`, "is HF_ENDPOINT a Hub?");
    if (performance.now() > deadline)
      throw stalled(
        new URL(settings.endpoint),
        "is not done answering",
        6 * settings.metadataTimeoutMs,
        "HF_HUB_ETAG_TIMEOUT",
      );
    parts.push(part);
  }
  try {
    return JSON.parse(decodeUtf8(Buffer.concat(parts), where)) as unknown;
  } catch (cause) {
    throw new QdoraError(
      where,
      "answers with something that is not JSON",
      "is HF_ENDPOINT a Hub? a login page may stand in between",
      { cause },
    );
  }
}
