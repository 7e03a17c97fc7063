/** Which process wrote something: a pid alone may belong to another one by now, so the time of its start goes with it. */
import { execFileSync } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import { z } from "zod";

/** As lock files hold it. */
export const processIdentitySchema = z.object({
  host: z.string(),
  /** The machine's present boot; "" where it is not known. */
  boot: z.string(),
  /** The pid namespace (containers have their own); "" where there are none. */
  pidSpace: z.string(),
  pid: z.int().min(1),
  /** When the process began, in the system's own words; "" where it is not known. */
  started: z.string(),
});

export type ProcessIdentity = Readonly<z.infer<typeof processIdentitySchema>>;

const attempt = (read: () => string): string => {
  try {
    return read();
  } catch {
    return "";
  }
};

/** Fields of /proc/PID/stat from the third on; the second, the command's name in parentheses, may hold anything. */
function statOf(pid: number): readonly string[] {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function startOf(pid: number): string {
  if (process.platform === "linux") return statOf(pid)[19] ?? "";
  if (process.platform === "win32") return "";
  return attempt(() =>
    execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8", timeout: 2000 }).trim(),
  );
}

export const thisProcess = (): ProcessIdentity => ({
  host: hostname(),
  boot: attempt(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
  pidSpace: attempt(() => readlinkSync("/proc/self/ns/pid")),
  pid: process.pid,
  started: startOf(process.pid),
});

function exists(pid: number): boolean {
  // A process that was killed stays in the table until its parent asks for it.
  if (process.platform === "linux" && ["Z", "X"].includes(statOf(pid)[0] ?? "")) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it is there and belongs to someone else.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** "unknown" for processes that cannot be seen from here: on another machine, or in another container. */
export function fateOf(other: ProcessIdentity): "runs" | "ended" | "unknown" {
  const here = thisProcess();
  if (other.host !== here.host) return "unknown";
  if (other.boot !== here.boot) return "ended";
  if (other.pidSpace !== here.pidSpace) return "unknown";
  if (!exists(other.pid)) return "ended";
  const started = startOf(other.pid);
  if (started === "" || other.started === "") return "unknown";
  return started === other.started ? "runs" : "ended";
}
