/**
 * Bytes of a file to a signed address of the storage behind the Hub: one PUT with its length said before, no token, no
 * redirects. (`fetch` sends streams without a length, which storage servers refuse.)
 */
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { QdoraError } from "../formats/error.js";
import { cut, networkTrouble, placeOf, stalled } from "./http.js";
import { HubTrouble, parseRetryAfter } from "./trouble.js";
import type { UploadSource } from "./upload_source.js";

/** The storage refuses the bytes: a signed address may have expired, so another one is worth a try. */
export class UploadRefused extends QdoraError {}

export interface Put {
  readonly source: UploadSource;
  readonly from: number;
  readonly to: number;
  readonly signal: AbortSignal;
  /** Longest time in which no bytes are taken. */
  readonly idleMs: number;
  /** Bytes that have gone out in this try. */
  readonly onPosition: (bytes: number) => void;
}

const PIECE_BYTES = 1 << 16;
/** A storage server puts the bytes in their place before it answers. */
const ANSWER_PATIENCE = 6;

/**
 * @returns the ETag of what was stored
 * @throws HubTrouble if the network or the server fails, UploadRefused
 */
export function put(url: URL, { source, from, to, signal, idleMs, onPosition }: Put): Promise<string> {
  return new Promise((done, failed) => {
    const send = url.protocol === "https:" ? httpsRequest : httpRequest;
    const request = send(url, {
      method: "PUT",
      agent: false,
      headers: { "content-length": to - from, "user-agent": "qdora" },
    });
    let timer: NodeJS.Timeout | undefined;
    let isOver = false;
    const end = (finish: () => void): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      request.destroy();
      finish();
    };
    const fail = (error: unknown): void =>
      end(() => failed(error instanceof Error ? error : new Error(String(error))));
    const stop = (): void => fail(signal.reason);
    const arm = (ms: number, what: string): void => {
      clearTimeout(timer);
      timer = setTimeout(() => fail(stalled(url, what, ms, "HF_HUB_DOWNLOAD_TIMEOUT")), ms);
    };
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop);
    let goOn = (): void => undefined;
    request.on("drain", () => goOn());
    request.on("error", (cause) => fail(isCut(cause) ? cut(url, cause) : networkTrouble(url, cause)));
    request.on("close", () => {
      fail(cut(url, undefined));
      goOn();
    });
    request.on("response", (response) => {
      const status = response.statusCode ?? 0;
      const etag = response.headers.etag ?? "";
      if (status >= 200 && status < 300) end(() => done(etag));
      else fail(refused(url, source, status, response.headers["retry-after"]));
    });
    const write = async (): Promise<void> => {
      for (let at = from; at < to; at += PIECE_BYTES) {
        if (isOver) return;
        arm(idleMs, "takes no bytes");
        const piece = await source.read(at, Math.min(PIECE_BYTES, to - at));
        if (isOver) return;
        if (!request.write(piece)) await new Promise<void>((go) => (goOn = go));
        onPosition(Math.min(at + PIECE_BYTES, to) - from);
      }
      if (isOver) return;
      arm(ANSWER_PATIENCE * idleMs, "does not confirm the upload");
      request.end();
    };
    write().catch(fail);
  });
}

const isCut = (error: unknown): boolean =>
  error instanceof Error && "code" in error && (error.code === "ECONNRESET" || error.code === "EPIPE");

function refused(url: URL, source: UploadSource, status: number, retryAfter: string | undefined): QdoraError {
  if (status === 408 || status === 429 || status >= 500)
    return new HubTrouble(placeOf(url), `the storage behind the Hub fails (${status})`, "try again later", {
      retryAfterMs: parseRetryAfter(retryAfter ?? null),
    });
  return new UploadRefused(
    source.path,
    status >= 300 && status < 400
      ? `the storage behind the Hub redirects the upload (${status}), which is not followed`
      : `the storage behind the Hub refuses the upload (${status})`,
    "try again; a proxy may stand in between",
  );
}
