/** A profile as people read it: one row for each kernel and variant, the slowest first; and as a trace for a browser. */
import type { TimedCall } from "../program/profiler.js";
import { productShare, type MeasuredProfile, type StepProfile } from "../train/profile.js";

export interface ProfileRow {
  readonly kernel: string;
  readonly variant: string;
  readonly calls: number;
  readonly ms: number;
  /** Of the time of all calls. */
  readonly share: number;
  readonly flops: number;
  readonly bytes: number;
}

/** Sums by kernel and variant, the slowest first. */
export function profileRows(calls: readonly TimedCall[]): readonly ProfileRow[] {
  const total = calls.reduce((sum, c) => sum + c.ms, 0);
  const rows = new Map<string, ProfileRow>();
  for (const { kernel, variant, ms, flops, bytes } of calls) {
    const key = `${kernel} ${variant}`;
    const row = rows.get(key) ?? { kernel, variant, calls: 0, ms: 0, share: 0, flops: 0, bytes: 0 };
    rows.set(key, {
      ...row,
      calls: row.calls + 1,
      ms: row.ms + ms,
      flops: row.flops + flops,
      bytes: row.bytes + bytes,
    });
  }
  return [...rows.values()]
    .map((row) => ({ ...row, share: total === 0 ? 0 : row.ms / total }))
    .toSorted((a, b) => b.ms - a.ms);
}

const rate = (amount: number, ms: number): string => {
  const perSecond = ms === 0 ? 0 : amount / 1e6 / ms;
  return amount === 0 ? "-" : perSecond.toFixed(perSecond < 10 ? 2 : 0);
};
const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;

/** A Markdown table with its heading and what it is compared with. */
export function profileTable(profile: MeasuredProfile): string {
  const { calls, peak, adapter, step, clock, wallMs } = profile;
  const rows = profileRows(calls);
  const sum = (of: (row: ProfileRow) => number): number => rows.reduce((total, row) => total + of(row), 0);
  const all: ProfileRow = {
    kernel: "all",
    variant: "",
    calls: calls.length,
    ms: sum((r) => r.ms),
    share: sum((r) => r.share),
    flops: sum((r) => r.flops),
    bytes: sum((r) => r.bytes),
  };
  const cells = (r: ProfileRow): readonly string[] => [
    r.kernel,
    r.variant,
    String(r.calls),
    r.ms.toFixed(2),
    percent(r.share),
    rate(r.flops, r.ms),
    rate(r.bytes, r.ms),
    r.flops === 0 || r.ms === 0 ? "-" : percent((r.flops * 1000) / r.ms / peak.flopsPerSecond),
  ];
  const { N, K, M } = peak.shape;
  return [
    `profile of step ${step} on ${adapter}, ${clock === "timestamps" ? "by GPU timestamps" : "by waiting for each call (no GPU timestamps here: launches count)"}`,
    table(
      ["kernel", "variant", "calls", "ms", "share", "GFLOP/s", "GB/s", "of best product"],
      [...rows.map(cells), cells(all)],
    ),
    `best product of this adapter: ${(peak.flopsPerSecond / 1e9).toFixed(0)} GFLOP/s (${peak.name}, ${N} x ${K} x ${M})`,
    `products with frozen weights: ${percent(productShare(calls))} of the time of all calls; the profiled step took ${wallMs.toFixed(0)} ms in all`,
  ].join("\n");
}

/** Aligned for a terminal, and Markdown; numbers to the right. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const isText = (i: number): boolean => i < 2;
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => (isText(i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(" | ")} |`;
  const rule = widths.map((w, i) => (isText(i) ? "-".repeat(w) : `${"-".repeat(w - 1)}:`));
  return [line(head), `| ${rule.join(" | ")} |`, ...rows.map(line)].join("\n");
}

/** A trace in the JSON of chrome://tracing and Perfetto: a track for each program, one for transfers. */
export function chromeTrace(profile: StepProfile): string {
  const programs = [...new Set(profile.calls.map((c) => c.program))];
  const track = (call: TimedCall): number =>
    call.kernel === call.variant ? programs.length + 1 : programs.indexOf(call.program) + 1;
  const names = [...programs, "transfers"].map((name, i) => ({
    name: "thread_name",
    ph: "M",
    pid: 1,
    tid: i + 1,
    args: { name },
  }));
  const events = profile.calls.map((call) => ({
    name: call.label,
    cat: call.kernel,
    ph: "X",
    pid: 1,
    tid: track(call),
    ts: call.startMs * 1000,
    dur: call.ms * 1000,
    args: { kernel: call.kernel, variant: call.variant, flops: call.flops, bytes: call.bytes },
  }));
  return JSON.stringify({
    displayTimeUnit: "ms",
    otherData: { adapter: profile.adapter, step: profile.step, clock: profile.clock },
    traceEvents: [...names, ...events],
  });
}
