/** Files as the formats need them: regular ones only, read to the byte, and written whole or not at all. */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import { QdoraError } from "./error.js";

export interface OpenFile {
  readonly path: string;
  readonly handle: FileHandle;
  /** Bytes, when it was opened. */
  readonly size: number;
}

/** One read(2) takes less than 2 GiB. */
const MAX_READ_BYTES = 1 << 30;

/** The system's name of an error such as ENOENT; "" for other errors. */
const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

/** An error of the system as what cannot be done with a file. */
export function cannot(verb: "read" | "written", path: string, cause: unknown): QdoraError {
  switch (codeOf(cause)) {
    case "ENOENT":
      return verb === "read"
        ? new QdoraError(path, "does not exist", "check the path, or download the folder again", { cause })
        : new QdoraError(path, "cannot be written: its folder does not exist", undefined, { cause });
    case "EACCES":
    case "EPERM":
      return new QdoraError(path, `may not be ${verb}`, "change the permissions", { cause });
    case "ENOSPC":
    case "EDQUOT":
      return new QdoraError(path, `cannot be ${verb}: the disk is full`, "free some space", { cause });
    default:
      return new QdoraError(path, `cannot be ${verb} (${codeOf(cause) || String(cause)})`, undefined, {
        cause,
      });
  }
}

/**
 * Opens a regular file for reading; the caller closes its handle.
 * @throws QdoraError if it is missing, or is a folder, a FIFO or a device
 */
export async function openFile(path: string): Promise<OpenFile> {
  let handle: FileHandle;
  try {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw cannot("read", path, cause);
  }
  try {
    const found = await handle.stat();
    if (!found.isFile())
      throw new QdoraError(path, found.isDirectory() ? "is a folder, not a file" : "is not a regular file");
    return { path, handle, size: found.size };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Reads exactly `byteCount` bytes.
 * @param out where they go, `byteCount` long (default: memory of their own)
 * @throws QdoraError if the file ends before
 */
export async function readBytes(
  file: OpenFile,
  offset: number,
  byteCount: number,
  out: Uint8Array = new Uint8Array(byteCount),
): Promise<Uint8Array> {
  for (let done = 0; done < byteCount;) {
    const wanted = Math.min(MAX_READ_BYTES, byteCount - done);
    const { bytesRead } = await file.handle
      .read(out, done, wanted, offset + done)
      .catch((cause: unknown) => Promise.reject(cannot("read", file.path, cause)));
    if (bytesRead === 0) {
      const end = offset + byteCount;
      throw new QdoraError(
        file.path,
        `ends at byte ${offset + done}, but data up to byte ${end} is needed`,
        "the file was cut or changed while it was read; download it again",
      );
    }
    done += bytesRead;
  }
  return out;
}

/**
 * Writes a file through `write`, under a temporary name beside it that takes the real name at the end: readers see the
 * old file or the whole new one.
 * @param write writes from the start of the handle on
 * @throws QdoraError if it cannot be written; the temporary file is gone then
 */
export async function writeAtomically(
  path: string,
  write: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const handle = await open(temporary, "wx");
    try {
      await write(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw codeOf(cause) === "" ? cause : cannot("written", path, cause);
  }
}

/** Writes a whole file, or leaves what was there before. @throws QdoraError */
export const writeFileAtomic = (path: string, data: string | Uint8Array): Promise<void> =>
  writeAtomically(path, (handle) => handle.writeFile(data));
