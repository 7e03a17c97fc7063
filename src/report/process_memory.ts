/** The process's own memory: the peak of what it held in RAM, as the operating system counts it. */
import { readFileSync, writeFileSync } from "node:fs";

/** Bytes; the peak since the start, or since `resetPeak` where the system can do that. */
export function peakResidentBytes(): number {
  try {
    const [, kib] = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    if (kib !== undefined) return Number(kib) * 1024;
  } catch {
    // Not Linux: the figure of getrusage.
  }
  return process.resourceUsage().maxRSS * 1024;
}

/** Starts a new peak at what is held now (Linux). */
export function resetPeak(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // Elsewhere the peak is that of the whole process.
  }
}
