/** What goes up: a file of this disk, or bytes that were made for the Hub. Read in pieces; a file that changes meanwhile is noticed. */
import { createHash } from "node:crypto";
import { QdoraError } from "../formats/error.js";
import { openFile, readBytes } from "../formats/files.js";

export interface FileToPush {
  /** In the repository: relative, with slashes. */
  readonly path: string;
  /** Its content, or the file of this disk that holds it. */
  readonly content: Uint8Array | string;
}

export interface UploadSource {
  readonly path: string;
  readonly size: number;
  read(at: number, byteCount: number): Promise<Uint8Array>;
  /** @throws QdoraError if the file is not the one that was opened any more */
  checkUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Both names that the Hub has for bytes. */
export interface Digests {
  readonly sha256: string;
  readonly gitSha1: string;
}

const PIECE_BYTES = 4 << 20;

/** @throws QdoraError naming a file that cannot be read */
export async function openSource({ path, content }: FileToPush): Promise<UploadSource> {
  if (typeof content !== "string") {
    const read = (at: number, byteCount: number): Promise<Uint8Array> =>
      Promise.resolve(content.subarray(at, at + byteCount));
    const nothing = (): Promise<void> => Promise.resolve();
    return { path, size: content.byteLength, read, checkUnchanged: nothing, close: nothing };
  }
  const file = await openFile(content);
  const { mtimeMs } = await file.handle.stat();
  return {
    path,
    size: file.size,
    read: (at, byteCount) => readBytes(file, at, byteCount),
    checkUnchanged: async () => {
      const now = await file.handle.stat();
      if (now.size === file.size && now.mtimeMs === mtimeMs) return;
      throw new QdoraError(
        content,
        "was changed while it was uploaded; nothing was committed",
        "run again when nothing writes it any more",
      );
    },
    close: () => file.handle.close(),
  };
}

/** @throws the signal's reason when it is aborted */
export async function digestSource(source: UploadSource, signal: AbortSignal): Promise<Digests> {
  const sha256 = createHash("sha256");
  const sha1 = createHash("sha1").update(`blob ${source.size}\0`);
  for (let at = 0; at < source.size; at += PIECE_BYTES) {
    signal.throwIfAborted();
    const piece = await source.read(at, Math.min(PIECE_BYTES, source.size - at));
    sha256.update(piece);
    sha1.update(piece);
  }
  return { sha256: sha256.digest("hex"), gitSha1: sha1.digest("hex") };
}
