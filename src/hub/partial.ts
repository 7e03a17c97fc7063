/** A file on its way into the cache, `blobs/HASH.incomplete`: what is there, how it hashes, where it goes on. */
import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { lstat, open, readFile, rename, rm, writeFile, type FileHandle } from "node:fs/promises";
import { QdoraError } from "../formats/error.js";
import type { RepoFile } from "./listing.js";

const READ_BYTES = 1 << 22;
/** Small pieces are written together. */
const WRITE_BYTES = 1 << 20;

/** A hash that a blob's name can be compared with. */
export function startHash(file: RepoFile): Hash {
  if (file.algorithm === "sha256") return createHash("sha256");
  return createHash("sha1").update(`blob ${file.size}\0`);
}

/** One writer at a time; close it, or finish it. */
export class PartialFile {
  readonly path: string;
  /** Bytes that are there and hashed. */
  size = 0;
  /** The ETag under which the storage gave the first bytes: it names them when more are asked for. */
  validator: string | undefined;
  readonly #file: RepoFile;
  readonly #blob: string;
  readonly #handle: FileHandle;
  #hash: Hash;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;

  private constructor(file: RepoFile, blob: string, path: string, handle: FileHandle) {
    this.#file = file;
    this.#blob = blob;
    this.path = path;
    this.#handle = handle;
    this.#hash = startHash(file);
  }

  /** Opens what an earlier run has left, and hashes it. @throws QdoraError if it is no regular file */
  static async open(file: RepoFile, blob: string, signal: AbortSignal): Promise<PartialFile> {
    const path = `${blob}.incomplete`;
    // A link or a FIFO with this name is not ours.
    const flags =
      constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
    const handle = await open(path, flags, 0o666).catch((cause: unknown) => {
      throw new QdoraError(path, "cannot be opened", "delete it, or check the permissions of the cache", {
        cause,
      });
    });
    const partial = new PartialFile(file, blob, path, handle);
    try {
      const found = await handle.stat();
      if (!found.isFile()) throw new QdoraError(path, "is not a regular file", "delete it");
      if (found.size > file.size) await partial.restart();
      else await partial.#hashStart(found.size, signal);
      return partial;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async #hashStart(size: number, signal: AbortSignal): Promise<void> {
    const buffer = Buffer.alloc(Math.min(READ_BYTES, size));
    while (this.size < size) {
      signal.throwIfAborted();
      const { bytesRead } = await this.#handle.read(
        buffer,
        0,
        Math.min(buffer.length, size - this.size),
        this.size,
      );
      if (bytesRead === 0) break;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.size += bytesRead;
    }
    const text = size > 0 ? await readFile(this.#validatorPath, "utf8").catch(() => "") : "";
    if (isStrongTag(text)) this.validator = text;
  }

  get #validatorPath(): string {
    return `${this.path}.etag`;
  }

  /** Forgets all bytes. */
  async restart(): Promise<void> {
    [this.#waiting, this.#waitingBytes, this.size] = [[], 0, 0];
    this.#hash = startHash(this.#file);
    this.validator = undefined;
    await this.#handle.truncate(0);
    await rm(this.#validatorPath, { force: true });
  }

  /** Keeps the ETag beside the bytes, for the next run. Weak ones do not promise the same bytes. */
  async remember(etag: string | null): Promise<void> {
    if (!isStrongTag(etag) || etag === this.validator) return;
    this.validator = etag;
    await writeFile(this.#validatorPath, etag);
  }

  async add(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.byteLength;
    this.size += bytes.byteLength;
    if (this.#waitingBytes >= WRITE_BYTES) await this.flush();
  }

  /** @throws QdoraError when the disk does not take them */
  async flush(): Promise<void> {
    const data = Buffer.concat(this.#waiting);
    let at = this.size - this.#waitingBytes;
    [this.#waiting, this.#waitingBytes] = [[], 0];
    for (let done = 0; done < data.length;) {
      const { bytesWritten } = await this.#handle
        .write(data, done, data.length - done, at)
        .catch((cause: unknown) => {
          const isFull =
            cause instanceof Error && "code" in cause && ["ENOSPC", "EDQUOT"].includes(String(cause.code));
          throw new QdoraError(
            this.path,
            isFull ? "cannot be written: the disk is full" : "cannot be written",
            isFull ? "free some space and run again: it goes on from here" : "check the disk of the cache",
            { cause },
          );
        });
      done += bytesWritten;
      at += bytesWritten;
    }
  }

  /** The hash of all bytes so far, in hexadecimal. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  /** The whole file takes its final name. */
  async finish(): Promise<void> {
    await this.flush();
    await this.#handle.datasync();
    await this.#handle.close();
    await rename(this.path, this.#blob);
    await rm(this.#validatorPath, { force: true });
  }

  /** Leaves the bytes for the next run. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      await this.#handle.close();
    }
    // Nothing is no start.
    if (this.size === 0) await this.#remove();
  }

  /** Removes the bytes: they are wrong. */
  async discard(): Promise<void> {
    await this.#handle.close();
    await this.#remove();
  }

  async #remove(): Promise<void> {
    await rm(this.path, { force: true });
    await rm(this.#validatorPath, { force: true });
  }
}

const isStrongTag = (text: string | null): text is string =>
  text !== null && /^"[\x21\x23-\x7e]{1,200}"$/.test(text);

/** Bytes that an earlier run has left of a file of `size` bytes. */
export async function partialSize(blob: string, size: number): Promise<number> {
  const found = await lstat(`${blob}.incomplete`).catch(() => undefined);
  return found?.isFile() === true && found.size <= size ? found.size : 0;
}
