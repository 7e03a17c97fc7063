/** sha256 of whole files, in pieces: memory stays flat whatever their size. */
import { createHash } from "node:crypto";
import { openFile, readBytes } from "./files.js";

export interface FileDigest {
  /** Lower-case hex. */
  readonly sha256: string;
  readonly bytes: number;
}

const PIECE_BYTES = 4 << 20;

/** @throws QdoraError naming the file if it cannot be read to its end */
export async function digestFile(path: string): Promise<FileDigest> {
  const file = await openFile(path);
  try {
    const hash = createHash("sha256");
    for (let at = 0; at < file.size; at += PIECE_BYTES)
      hash.update(await readBytes(file, at, Math.min(PIECE_BYTES, file.size - at)));
    return { sha256: hash.digest("hex"), bytes: file.size };
  } finally {
    await file.handle.close();
  }
}
