/**
 * The part of the mock Hub that takes pushes: repositories and branches that are made, LFS uploads to the storage server,
 * commits that are whole or not at all. As strict as the real one where that matters.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { gitSha1, sendError, sendJson, sha256 } from "./mock_hub.js";

export interface MockCommit {
  readonly id: string;
  readonly parent: string;
  readonly summary: string;
  readonly description: string;
}

export interface StoredFile {
  readonly bytes: Buffer;
  readonly large: boolean;
}

interface MockRepo {
  isPrivate: boolean;
  readonly branches: Map<string, { id: string; files: Map<string, StoredFile>; commits: MockCommit[] }>;
}

export interface WriteOptions {
  /** This token may write, */
  readonly token?: string;
  /** this one may only read. */
  readonly readToken?: string;
  /** Repositories that are there, with their files. */
  readonly repos?: Readonly<
    Record<string, { readonly isPrivate?: boolean; readonly files?: Record<string, StoredFile> }>
  >;
  /** Files of at least so many bytes, and all safetensors, go to the storage. */
  readonly largeFrom?: number;
  /** Uploads in parts of so many bytes. */
  readonly chunkSize?: number;
}

export const WRITE_TOKEN = "hf_writeWRITEwrite";
export const READ_TOKEN = "hf_readREADread";

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
};

export class MockWrites {
  readonly repos = new Map<string, MockRepo>();
  /** The storage: bytes by sha256. */
  readonly objects = new Map<string, Buffer>();
  readonly #parts = new Map<string, Map<number, Buffer>>();
  readonly #options: WriteOptions;
  #count = 0;

  constructor(options: WriteOptions = {}) {
    this.#options = options;
    for (const [id, { isPrivate = false, files = {} }] of Object.entries(options.repos ?? {}))
      this.#make(id, isPrivate, files);
  }

  #hash(): string {
    this.#count++;
    return sha256(Buffer.from(`commit ${this.#count}`)).slice(0, 40);
  }
  #make(id: string, isPrivate: boolean, files: Record<string, StoredFile> = {}): void {
    const first = {
      ".gitattributes": { bytes: Buffer.from("*.safetensors filter=lfs\n"), large: false },
      ...files,
    };
    const main = { id: this.#hash(), files: new Map(Object.entries(first)), commits: [] };
    this.repos.set(id, { isPrivate, branches: new Map([["main", main]]) });
  }
  branch(id: string, name = "main"): { id: string; files: Map<string, StoredFile>; commits: MockCommit[] } {
    const found = this.repos.get(id)?.branches.get(name);
    if (!found) throw new Error(`the mock has no ${id} at ${name}`);
    return found;
  }
  /** Somebody else commits. */
  move(id: string): void {
    this.branch(id).id = this.#hash();
  }

  /** A PUT to the storage. */
  store(url: string, request: IncomingMessage, response: ServerResponse): void {
    void bodyOf(request)
      .then((bytes) => {
        const { pathname, searchParams } = new URL(url, "http://x");
        const [, oid = "", part] = /^\/put\/([0-9a-f]{64})(?:\/(\d+))?$/.exec(pathname) ?? [];
        if (request.headers.authorization !== undefined)
          return sendError(response, 400, undefined, "unsigned");
        if (request.headers["transfer-encoding"] !== undefined) return sendError(response, 411);
        if (searchParams.get("signature") !== "secret") return sendError(response, 403);
        if (part === undefined) {
          if (sha256(bytes) !== oid) return sendError(response, 400, undefined, "BadDigest");
          this.objects.set(oid, bytes);
        } else {
          const parts = this.#parts.get(oid) ?? new Map<number, Buffer>();
          this.#parts.set(oid, parts.set(Number(part), bytes));
        }
        response.writeHead(200, { etag: `"${gitSha1(bytes)}"` }).end();
      })
      .catch(() => undefined);
  }

  /** Everything that the Hub itself is asked. */
  answer(url: string, request: IncomingMessage, response: ServerResponse, storageUrl: string): void {
    void bodyOf(request)
      .then((body) => this.#answer(url, request, body.toString(), response, storageUrl))
      .catch((error: unknown) => sendError(response, 500, undefined, String(error)));
  }

  #answer(
    url: string,
    request: IncomingMessage,
    body: string,
    response: ServerResponse,
    storageUrl: string,
  ): void {
    const { token = WRITE_TOKEN, readToken = READ_TOKEN, largeFrom = 1 << 20, chunkSize } = this.#options;
    const path = decodeURIComponent(new URL(url, "http://x").pathname);
    const given = request.headers.authorization?.replace("Bearer ", "");
    const isPost = request.method === "POST";
    if (given !== undefined && given !== token && given !== readToken)
      return sendError(response, 401, undefined, "Invalid credentials in Authorization header");
    if (isPost && given !== token && !path.startsWith("/complete/"))
      return sendError(response, 403, undefined, "You need write access");
    const json = (): Record<string, unknown> => JSON.parse(body) as Record<string, unknown>;
    if (isPost && path === "/api/repos/create") {
      const { organization, name, visibility } = json();
      const id = `${String(organization)}/${String(name)}`;
      if (this.repos.has(id))
        return sendError(response, 409, undefined, "You already created this model repo");
      this.#make(id, visibility === "private");
      return sendJson(response, { url: id });
    }
    if (isPost && path === "/api/validate-yaml") {
      const isBad = String(json()["content"]).includes("license: mine");
      const errors = isBad ? [{ message: '"license" must be one of [apache-2.0, mit]' }] : [];
      response.writeHead(isBad ? 400 : 200, { "content-type": "application/json" });
      return void response.end(JSON.stringify({ errors, warnings: [] }));
    }
    if (isPost && path.startsWith("/complete/")) {
      const oid = path.slice("/complete/".length);
      const { parts } = json() as { parts: { partNumber: number; etag: string }[] };
      const stored = this.#parts.get(oid);
      const bytes = Buffer.concat(parts.map(({ partNumber }) => stored?.get(partNumber) ?? Buffer.alloc(0)));
      if (sha256(bytes) !== oid) return sendError(response, 400, undefined, "parts do not fit");
      this.objects.set(oid, bytes);
      return sendJson(response, { success: true });
    }
    const batch = /^\/(.+)\.git\/info\/lfs\/objects\/batch$/.exec(path);
    if (isPost && batch) {
      const { objects } = json() as { objects: { oid: string; size: number }[] };
      const hub = `http://${request.headers.host ?? ""}`;
      return sendJson(response, {
        objects: objects.map(({ oid, size }) => {
          if (this.objects.has(oid)) return { oid, size };
          if (chunkSize === undefined)
            return { oid, size, actions: { upload: { href: `${storageUrl}/put/${oid}?signature=secret` } } };
          const numbers = Array.from({ length: Math.ceil(size / chunkSize) }, (_, i) => i + 1);
          const urls = numbers.map((n) => [
            String(n).padStart(5, "0"),
            `${storageUrl}/put/${oid}/${n}?signature=secret`,
          ]);
          const header = { chunk_size: String(chunkSize), ...(Object.fromEntries(urls) as object) };
          return { oid, size, actions: { upload: { href: `${hub}/complete/${oid}`, header } } };
        }),
      });
    }
    const [, id = "", what, rest = ""] = /^\/api\/models\/([^/]+\/[^/]+)(?:\/(\w+)\/(.+))?$/.exec(path) ?? [];
    const repo = this.repos.get(id);
    if (!repo || (repo.isPrivate && given === undefined))
      return sendError(response, 404, "RepoNotFound", "Repository not found");
    if (what === "branch" && isPost) {
      if (repo.branches.has(rest)) return sendError(response, 409);
      const main = this.branch(id);
      repo.branches.set(rest, { id: main.id, files: new Map(main.files), commits: [] });
      return sendJson(response, {});
    }
    const branch =
      repo.branches.get(what === undefined ? "main" : rest) ??
      [...repo.branches.values()].find((b) => b.id === rest);
    if (!branch) return sendError(response, 404, "RevisionNotFound", "Invalid rev id");
    if (what === undefined || what === "revision")
      return sendJson(response, { id, sha: branch.id, private: repo.isPrivate });
    if (what === "tree")
      return sendJson(
        response,
        [...branch.files].map(([name, { bytes, large }]) => ({
          type: "file",
          path: name,
          size: bytes.length,
          oid: gitSha1(bytes),
          ...(large && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 } }),
        })),
      );
    if (what === "preupload" && isPost) {
      const { files } = json() as { files: { path: string; size: number }[] };
      return sendJson(response, {
        files: files.map(({ path: name, size }) => ({
          path: name,
          uploadMode: name.endsWith(".safetensors") || size >= largeFrom ? "lfs" : "regular",
          shouldIgnore: false,
        })),
      });
    }
    if (what === "commit" && isPost) return this.#commit(id, branch, body, response);
    sendError(response, 404, "EntryNotFound", "Entry not found");
  }

  #commit(
    id: string,
    branch: ReturnType<MockWrites["branch"]>,
    body: string,
    response: ServerResponse,
  ): void {
    type Line = { key: string; value: Record<string, string> };
    const lines = body
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Line);
    const header = lines.find(({ key }) => key === "header")?.value ?? {};
    if (header["parentCommit"] !== undefined && header["parentCommit"] !== branch.id)
      return sendError(response, 412, undefined, "A commit has happened since");
    const files = new Map(branch.files);
    for (const { key, value } of lines) {
      const { path = "", content = "", oid = "" } = value;
      if (key === "file") files.set(path, { bytes: Buffer.from(content, "base64"), large: false });
      if (key !== "lfsFile") continue;
      const bytes = this.objects.get(oid);
      if (!bytes) return sendError(response, 400, undefined, `${path}: the object is not on the storage`);
      files.set(path, { bytes, large: true });
    }
    const parent = branch.id;
    branch.id = this.#hash();
    branch.files = files;
    branch.commits.push({
      id: branch.id,
      parent,
      summary: header["summary"] ?? "",
      description: header["description"] ?? "",
    });
    sendJson(response, {
      success: true,
      commitOid: branch.id,
      commitUrl: `https://huggingface.co/${id}/commit/${branch.id}`,
    });
  }
}
