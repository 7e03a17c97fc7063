/**
 * One run in one output folder. The lock is a file that names its process; it outlives kill -9, and the next run sees
 * that its process has ended, even if the pid belongs to another one now. Where the process cannot be seen (another
 * machine on the same disk), a heartbeat tells: the holder touches the file.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { QdoraError } from "../formats/error.js";
import { makeFolder, removeEmpty } from "../formats/make_folder.js";
import { fateOf, processIdentitySchema, thisProcess } from "../formats/process_identity.js";

export const LOCK_FILE = ".qdora.lock";
const HEARTBEAT_MS = 15_000;
/** A lock of a process that cannot be seen is dead when it was not touched for so long. */
const SILENCE_MS = 120_000;

export interface FolderLock {
  /** Gives the folder free; also happens when the process ends by itself. */
  release(): void;
}

const lockSchema = z.object({ token: z.string(), ...processIdentitySchema.shape });

type Written = z.infer<typeof lockSchema>;

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? String(error.code) : "";

/** What a lock file says; undefined if it is not there (any more) or says nothing that makes sense. */
function readLock(path: string): Written | undefined {
  try {
    const parsed = lockSchema.safeParse(JSON.parse(readFileSync(path, "utf8")));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** Puts the file there whole, unless there is one. @returns whether it did */
function place(temporary: string, path: string): boolean {
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    // ENOENT: the holder took it for something left behind.
    if (["EEXIST", "ENOENT"].includes(codeOf(error))) return false;
    // Some file systems have no hard links; there the text may be seen half-written, which counts as not readable.
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(codeOf(error))) throw error;
  }
  try {
    writeFileSync(path, readFileSync(temporary), { flag: "wx" });
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

/** Whether the lock at `path` belongs to a run that goes on. @param now mtime of a file made just now, by the disk's clock */
function isHeld(path: string, owner: Written | undefined, now: number): boolean {
  const fate = owner ? fateOf(owner) : "unknown";
  if (fate !== "unknown") return fate === "runs";
  const touched = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return touched !== undefined && now - touched < SILENCE_MS;
}

/** Takes away a lock whose run has ended. Another process may do the same at this moment: what was moved is looked at again. */
function clearEnded(path: string, owner: Written | undefined, aside: string): void {
  try {
    renameSync(path, aside);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return;
    throw error;
  }
  const moved = readLock(aside);
  if (moved?.token !== owner?.token) place(aside, path);
  rmSync(aside, { force: true });
}

const inUse = (folder: string, path: string, owner: Written | undefined): QdoraError =>
  new QdoraError(
    "output_dir",
    owner
      ? `${folder} is used by another run (process ${owner.pid} on ${owner.host})`
      : `${folder} is used by another run`,
    `wait for it, stop it, or name another output_dir; if there is no such run, delete ${path}`,
  );

/** Makes the folder where it is missing, and takes it for this process. @throws QdoraError if another run has it */
export function lockFolder(folder: string): FolderLock {
  const made = makeFolder(folder);
  const path = join(folder, LOCK_FILE);
  const token = randomBytes(6).toString("hex");
  const temporary = `${path}.${token}.tmp`;
  try {
    for (;;) {
      writeFileSync(temporary, JSON.stringify({ token, ...thisProcess() }));
      if (place(temporary, path)) break;
      const owner = readLock(path);
      const now = statSync(temporary, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
      if (isHeld(path, owner, now)) throw inUse(folder, path, owner);
      clearEnded(path, owner, `${path}.${randomBytes(6).toString("hex")}.tmp`);
    }
  } catch (error) {
    rmSync(temporary, { force: true });
    if (made !== undefined) removeEmpty(folder, made);
    throw error;
  }
  rmSync(temporary, { force: true });
  const heartbeat = setInterval(() => touch(path, token), HEARTBEAT_MS);
  heartbeat.unref();
  const release = (): void => {
    clearInterval(heartbeat);
    process.off("exit", release);
    if (readLock(path)?.token === token) rmSync(path, { force: true });
    if (made !== undefined) removeEmpty(folder, made);
  };
  process.on("exit", release);
  return { release };
}

function touch(path: string, token: string): void {
  try {
    if (readLock(path)?.token !== token) return;
    // Writing its first byte again takes the disk's clock, which is the one that others compare with.
    const file = openSync(path, "r+");
    try {
      writeSync(file, "{", 0);
    } finally {
      closeSync(file);
    }
  } catch {
    // The folder went away; whoever writes into it next says so.
  }
}
