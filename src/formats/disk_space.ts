/** Refuses at once what the disk has no room for. */
import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { QdoraError } from "./error.js";

/** @param path of a file or folder that is to be made. @throws QdoraError if its disk has less than `bytes` left */
export async function checkFreeSpace(path: string, bytes: number): Promise<void> {
  let found = resolve(path);
  while (!existsSync(found)) found = dirname(found);
  const { bavail, bsize } = await statfs(found);
  if (bavail * bsize < bytes)
    throw new QdoraError(
      path,
      `needs ${bytes} bytes, but the disk has ${bavail * bsize} left`,
      "free some space, or name a folder on another disk",
    );
}
