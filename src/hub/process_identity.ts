/** Who a process is: a number alone is given to another process some day. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { hostname } from "node:os";

export interface ProcessIdentity {
  readonly host: string;
  /** Of the machine's start; "" where the system does not tell. */
  readonly boot: string;
  readonly pid: number;
  /** When the process began, in the system's own words; "" where it does not tell. */
  readonly began: string;
}

const readText = (path: string): Promise<string> => readFile(path, "utf8").catch(() => "");

/** When a process began; "" if there is none, or if the system does not tell. */
async function beginningOf(pid: number): Promise<string> {
  if (process.platform === "linux") {
    const line = await readText(`/proc/${pid}/stat`);
    // The name in parentheses may hold anything; the 22nd field counts from its end.
    return line.slice(line.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  }
  if (process.platform === "win32") return "";
  return new Promise((done) => {
    execFile("ps", ["-o", "lstart=", "-p", String(pid)], { timeout: 5000 }, (error, out) =>
      done(error ? "" : out.trim()),
    );
  });
}

/** This process. */
export async function ownIdentity(): Promise<ProcessIdentity> {
  const boot = (await readText("/proc/sys/kernel/random/boot_id")).trim();
  return { host: hostname(), boot, pid: process.pid, began: await beginningOf(process.pid) };
}

/** Whether the process still runs; undefined if that cannot be known from here. */
export async function isRunning(other: ProcessIdentity, own: ProcessIdentity): Promise<boolean | undefined> {
  if (other.host !== own.host) return undefined;
  if (other.boot !== own.boot) return false;
  try {
    process.kill(other.pid, 0);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return false;
  }
  const began = await beginningOf(other.pid);
  if (began === "" || other.began === "") return undefined;
  return began === other.began;
}
