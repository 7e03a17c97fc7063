/**
 * A lock between processes: a file that says who holds it, touched every few seconds.
 * It outlives neither kill -9 nor a pid that is given to another process: the holder is known by its start time, and
 * where that cannot be seen (another machine), by a file that nobody touches any more.
 */
import { randomBytes } from "node:crypto";
import { link, open, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { QdoraError } from "../formats/error.js";
import {
  fateOf,
  processIdentitySchema,
  thisProcess,
  type ProcessIdentity,
} from "../formats/process_identity.js";
import { sleep } from "./trouble.js";

export interface Waiting {
  readonly signal: AbortSignal;
  /** Said once, before the wait. */
  readonly onWait: (holder: string) => void;
}

export interface LockTimes {
  /** Between touches. */
  readonly touchMs: number;
  /** Untouched so long, a lock of a process that cannot be seen is nobody's. */
  readonly abandonedMs: number;
  /** Untouched so long, a process that does run has been stopped: an error, for it may go on. */
  readonly stuckMs: number;
}

const TIMES: LockTimes = { touchMs: 5000, abandonedMs: 60_000, stuckMs: 300_000 };
const POLL_MS = 200;

/** Runs `body` while no other process does so under the same path. @throws QdoraError if the holder has stopped */
export async function withLock<T>(
  path: string,
  waiting: Waiting,
  body: () => Promise<T>,
  times: LockTimes = TIMES,
): Promise<T> {
  const own = thisProcess();
  const text = JSON.stringify({ ...own, key: randomBytes(8).toString("hex") });
  await acquire(path, text, own, waiting, times);
  const timer = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, times.touchMs);
  timer.unref();
  try {
    return await body();
  } finally {
    clearInterval(timer);
    if ((await readText(path)) === text) await rm(path, { force: true });
  }
}

async function acquire(
  path: string,
  text: string,
  own: ProcessIdentity,
  { signal, onWait }: Waiting,
  times: LockTimes,
): Promise<void> {
  let seen = "";
  let seenSince = performance.now();
  let hasSaid = false;
  while (!(await create(path, text))) {
    signal.throwIfAborted();
    const holderText = await readText(path);
    const touched = await stat(path).catch(() => undefined);
    if (!touched) continue;
    const state = `${touched.mtimeMs} ${holderText}`;
    if (state !== seen) [seen, seenSince] = [state, performance.now()];
    const untouchedMs = performance.now() - seenSince;
    const holder = readHolder(holderText);
    const fate = holder ? fateOf(holder) : "unknown";
    if (fate === "ended" || (fate === "unknown" && untouchedMs > times.abandonedMs)) {
      await takeAway(path, holderText);
      continue;
    }
    const name = holder
      ? `process ${holder.pid}${holder.host === own.host ? "" : ` on ${JSON.stringify(holder.host)}`}`
      : "a process";
    if (untouchedMs > times.stuckMs)
      throw new QdoraError(
        path,
        `is held by ${name}, which does not go on`,
        `end that process, or delete ${path}`,
      );
    if (!hasSaid) onWait(name);
    hasSaid = true;
    await sleep(POLL_MS, signal);
  }
}

/** Makes the file with its content in one step. @returns false if it is there already */
async function create(path: string, text: string): Promise<boolean> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    await writeFile(temporary, text, { flag: "wx" });
    await link(temporary, path);
    return true;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code === "EEXIST") return false;
    // File systems without hard links.
    if (["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EACCES", "UNKNOWN"].includes(code))
      return await createSlowly(path, text);
    throw new QdoraError(
      path,
      `cannot be made (${code})`,
      "check the permissions of the cache, or set HF_HUB_CACHE",
      {
        cause: error,
      },
    );
  } finally {
    await rm(temporary, { force: true });
  }
}

async function createSlowly(path: string, text: string): Promise<boolean> {
  try {
    const handle = await open(path, "wx");
    await handle.writeFile(text);
    await handle.close();
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw new QdoraError(path, "cannot be made", "check the permissions of the cache, or set HF_HUB_CACHE", {
      cause: error,
    });
  }
}

/** Removes a dead process's lock, unless another waiter has done so: one at a time, by a second file that lives for a moment. */
async function takeAway(path: string, text: string): Promise<void> {
  const guard = `${path}.guard`;
  if (!(await create(guard, ""))) {
    const found = await stat(guard).catch(() => undefined);
    // Its maker was killed in that moment.
    if (found && Date.now() - found.mtimeMs > 10_000) await rm(guard, { force: true });
    return;
  }
  try {
    if ((await readText(path)) === text) await rm(path, { force: true });
  } finally {
    await rm(guard, { force: true });
  }
}

const readText = (path: string): Promise<string> => readFile(path, "utf8").catch(() => "");

function readHolder(text: string): ProcessIdentity | undefined {
  try {
    return processIdentitySchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
