/** A folder that appears whole or not at all: written under a temporary name beside it, brought to the disk, then renamed. */
import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, rmdir, stat, statfs } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { QdoraError } from "./error.js";
import { cannot } from "./files.js";
import { cannotMake, makeFolder } from "./make_folder.js";

/** Refuses a folder that holds something, or a file. @throws QdoraError, wrong usage */
export async function checkNewFolder(out: string): Promise<void> {
  const found = await stat(out).catch(() => undefined);
  if (!found) return;
  if (!found.isDirectory())
    throw new QdoraError(out, "is a file", "name a folder that does not exist yet", { exitCode: 2 });
  const names = await readdir(out);
  if (names.length > 0)
    throw new QdoraError(
      out,
      `is not empty (it holds ${names.length} files)`,
      "name a folder that does not exist yet: nothing is written over",
      { exitCode: 2 },
    );
}

async function syncFolder(path: string): Promise<void> {
  // Windows cannot open folders, and keeps names without being asked.
  const handle = await open(path).catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/**
 * @param neededBytes refused at once where the disk has less
 * @param write fills the temporary folder it is given; its files must already be on the disk
 * @throws QdoraError if the folder cannot be written, and what `write` throws; nothing is left behind then
 */
export async function writeFolder(
  out: string,
  neededBytes: number,
  write: (temporary: string) => Promise<void>,
): Promise<void> {
  await checkNewFolder(out);
  const target = resolve(out);
  const parent = dirname(target);
  const temporary = join(parent, `${basename(target)}.${randomBytes(6).toString("hex")}.tmp`);
  makeFolder(parent);
  try {
    await mkdir(temporary);
  } catch (cause) {
    throw cannotMake(out, cause);
  }
  try {
    const { bavail, bsize } = await statfs(temporary);
    if (bavail * bsize < neededBytes)
      throw new QdoraError(
        out,
        `needs ${neededBytes} bytes, but the disk has ${bavail * bsize} free`,
        "free some space, or name a folder on another disk",
      );
    await write(temporary);
    await syncFolder(temporary);
    try {
      await rmdir(target).catch(() => undefined);
      await rename(temporary, target);
    } catch (cause) {
      throw cannot("written", out, cause);
    }
    await syncFolder(parent);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}
