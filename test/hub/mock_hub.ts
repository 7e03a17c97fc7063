/**
 * A local look-alike of the Hub: its API, its file addresses, and a storage server at an origin of its own, as the
 * real one has. Every request is noted; faults are scripted per request.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll } from "vitest";
import type { MockWrites } from "./mock_writes.js";

export interface MockFile {
  readonly bytes: Buffer;
  /** Large files lie on the storage server and are named by sha256; small ones come from the Hub, named by git's sha1. */
  readonly large: boolean;
  /** Instead of the true ones in listings. */
  readonly lies?: { readonly size?: unknown; readonly hash?: string };
}

export interface Seen {
  readonly host: "hub" | "storage";
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  /** Bytes of a file that were sent. */
  bytes: number;
}

export interface Exchange {
  readonly seen: Seen;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The file that is asked for, if it is one. */
  readonly file: MockFile | undefined;
  /** Goes on as without a fault; `changed` replaces the file's bytes, `etag` its ETag. */
  readonly serve: (change?: Change) => void;
}

export interface Change {
  readonly bytes?: Buffer;
  readonly etag?: string;
  /** Cut the connection after so many bytes of the body. */
  readonly cutAfter?: number;
  readonly ignoreRange?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Fault {
  readonly host?: Seen["host"];
  /** What the path has to match. */
  readonly at: RegExp;
  /** How often it strikes; default once. */
  readonly times?: number;
  readonly strike: (exchange: Exchange) => void;
}

export interface MockOptions {
  readonly id?: string;
  readonly type?: "models" | "datasets";
  readonly commit?: string;
  /** A branch beside main, of the same commit. */
  readonly branch?: string;
  readonly files: Readonly<Record<string, MockFile>>;
  readonly faults?: readonly Fault[];
  /** Only this token may read. */
  readonly token?: string;
  /** Entries of a listing page. */
  readonly pageSize?: number;
  /** Takes pushes; see mock_writes.ts. */
  readonly writes?: MockWrites;
}

export interface MockHub {
  readonly url: string;
  readonly storageUrl: string;
  readonly commit: string;
  readonly seen: readonly Seen[];
  close(): Promise<void>;
}

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

export const small = (text: string): MockFile => ({ bytes: Buffer.from(text), large: false });
/** Bytes that differ everywhere, so that wrong places show. */
export function large(size: number, seed = 1): MockFile {
  const bytes = Buffer.alloc(size);
  for (let i = 0, x = seed; i < size; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return { bytes, large: true };
}

export const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
export const gitSha1 = (bytes: Buffer): string =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
export const hashOf = ({ bytes, large: isLarge }: MockFile): string =>
  isLarge ? sha256(bytes) : gitSha1(bytes);

const listen = (server: Server): Promise<string> =>
  new Promise((done) => {
    server.listen(0, "127.0.0.1", () => done(`http://127.0.0.1:${(server.address() as AddressInfo).port}`));
  });

export const sendError = (
  response: ServerResponse,
  status: number,
  code?: string,
  message?: string,
): void => {
  if (code) response.setHeader("x-error-code", code);
  if (message) response.setHeader("x-error-message", message);
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ error: message }));
};

const started: (() => Promise<void>)[] = [];
afterAll(() => Promise.all(started.map((close) => close())));

/** An address where nobody listens. */
export async function closedUrl(): Promise<string> {
  const server = createServer();
  const url = await listen(server);
  await new Promise((done) => server.close(done));
  return url;
}

/** Starts both servers; they end with the file's tests. */
export async function startMockHub(options: MockOptions): Promise<MockHub> {
  const { id = "acme/tiny", type = "models", commit = COMMIT, files, pageSize = 1000 } = options;
  const seen: Seen[] = [];
  const left = (options.faults ?? []).map((fault) => ({ fault, times: fault.times ?? 1 }));
  const serve =
    (host: Seen["host"], route: (exchange: Exchange, change: Change) => void) =>
    (request: IncomingMessage, response: ServerResponse): void => {
      const entry: Seen = {
        host,
        method: request.method ?? "",
        url: request.url ?? "",
        headers: request.headers,
        bytes: 0,
      };
      seen.push(entry);
      const path = decodeURIComponent(new URL(entry.url, "http://x").pathname);
      const [name] = Object.keys(files)
        .filter((file) => path.endsWith(`/${file}`))
        .toSorted((a, b) => b.length - a.length);
      const exchange: Exchange = {
        seen: entry,
        request,
        response,
        file: name === undefined ? undefined : files[name],
        serve: (change = {}) => route(exchange, change),
      };
      const struck = left.find(
        ({ fault, times }) => times > 0 && (fault.host ?? host) === host && fault.at.test(path),
      );
      if (!struck) return route(exchange, {});
      struck.times--;
      struck.fault.strike(exchange);
    };
  const storage = createServer(
    serve("storage", ({ file, seen: entry, request, response }, change) => {
      if (options.writes && request.method === "PUT")
        return options.writes.store(entry.url, request, response);
      if (!file) return sendError(response, 404);
      sendBytes(entry, request, response, {
        etag: `"storage-${sha256(file.bytes).slice(0, 16)}"`,
        bytes: file.bytes,
        ...change,
      });
    }),
  );
  const storageUrl = await listen(storage);
  const prefix = type === "models" ? "" : `${type}/`;
  const hub = createServer(
    serve("hub", ({ file, request, response, seen: entry }, change) => {
      const { url } = entry;
      const { pathname, searchParams } = new URL(url, "http://x");
      const path = decodeURIComponent(pathname);
      if (options.writes) return options.writes.answer(url, request, response, storageUrl);
      if (options.token !== undefined && request.headers.authorization !== `Bearer ${options.token}`)
        return sendError(response, 401, "RepoNotFound", "Repository not found");
      const api = `/api/${type}/${id}`;
      const resolve = new RegExp(`^/${prefix}${id}/resolve/([^/]+)/(.+)$`).exec(path);
      const revision = new RegExp(`^${api}/(revision|tree)/(.+)$`).exec(path)?.[2] ?? resolve?.[1];
      if (revision === undefined) return sendError(response, 404, "RepoNotFound", "Repository not found");
      if (revision !== "main" && revision !== options.branch && revision !== commit)
        return sendError(response, 404, "RevisionNotFound", `Invalid rev id: ${revision}`);
      if (path.startsWith(`${api}/revision/`)) return sendJson(response, { id, sha: commit, siblings: [] });
      if (path.startsWith(`${api}/tree/`)) return sendTree(response, searchParams, pathname);
      if (!file) return sendError(response, 404, "EntryNotFound", "Entry not found");
      response.setHeader("x-repo-commit", commit);
      if (file.large) {
        response.setHeader("x-linked-etag", `"${sha256(file.bytes)}"`);
        response.setHeader("x-linked-size", String(file.bytes.length));
        response.setHeader("etag", `"pointer"`);
        const location = `${storageUrl}/signed/${resolve?.[2] ?? ""}?signature=secret`;
        response.writeHead(302, { location, ...change.headers }).end();
        return;
      }
      sendBytes(entry, request, response, { etag: `"${gitSha1(file.bytes)}"`, bytes: file.bytes, ...change });
    }),
  );
  const url = await listen(hub);

  function sendTree(response: ServerResponse, query: URLSearchParams, pathname: string): void {
    const start = Number(query.get("cursor") ?? 0);
    const entries = Object.entries(files).map(([path, file]) => {
      const size = file.lies?.size ?? file.bytes.length;
      const hash = file.lies?.hash ?? hashOf(file);
      return file.large
        ? {
            type: "file",
            path,
            size,
            oid: gitSha1(Buffer.from("pointer")),
            lfs: { oid: hash, size, pointerSize: 134 },
          }
        : { type: "file", path, size, oid: hash };
    });
    if (start + pageSize < entries.length)
      response.setHeader("link", `<${url}${pathname}?recursive=true&cursor=${start + pageSize}>; rel="next"`);
    sendJson(response, entries.slice(start, start + pageSize));
  }
  const close = async (): Promise<void> => {
    for (const server of [hub, storage]) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  };
  started.push(close);
  return { url, storageUrl, commit, seen, close };
}

export const sendJson = (response: ServerResponse, value: unknown): void => {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
};

/** A file server's answer: whole, or the range that was asked for if If-Range allows it. */
function sendBytes(
  seen: Seen,
  request: IncomingMessage,
  response: ServerResponse,
  {
    bytes,
    etag,
    cutAfter,
    ignoreRange,
    headers = {},
  }: Change & { readonly bytes: Buffer; readonly etag: string },
): void {
  const [, from, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const condition = request.headers["if-range"];
  const isRange =
    from !== undefined && ignoreRange !== true && (condition === undefined || condition === etag);
  const start = isRange ? Number(from) : 0;
  if (isRange && start >= bytes.length) return void response.writeHead(416).end();
  const end = isRange && last ? Math.min(Number(last) + 1, bytes.length) : bytes.length;
  const body = bytes.subarray(start, end);
  response.writeHead(isRange ? 206 : 200, {
    "content-length": body.length,
    etag,
    ...(isRange && { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` }),
    ...headers,
  });
  if (request.method === "HEAD") return void response.end();
  seen.bytes = Math.min(body.length, cutAfter ?? body.length);
  if (cutAfter === undefined) return void response.end(body);
  response.write(body.subarray(0, cutAfter), () => setTimeout(() => response.destroy(), 50));
}
