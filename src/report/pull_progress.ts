/** Progress of a download, on stderr: one line that is rewritten on a terminal, a line per file and now and then elsewhere. */
import type { PullEvent } from "../hub/pull_options.js";
import { formatBytes } from "../formats/bytes.js";
import { formatSeconds } from "./format.js";
import type { Output } from "./progress.js";

/** The rate is that of the last seconds. */
const WINDOW_MS = 10_000;
const LIVE_MS = 200;
const PLAIN_MS = 10_000;

type Progress = Extract<PullEvent, { readonly type: "progress" }>;

/** Listens to a pull and shows it. @param now a clock in milliseconds */
export function pullPrinter(
  out: Output,
  now: () => number = () => performance.now(),
): (event: PullEvent) => void {
  const live = out.isTTY === true;
  const marks: { readonly at: number; readonly fetchedBytes: number }[] = [];
  let shownAt = now();
  let open = false;
  const line = (text: string): void => {
    out.write(`${open ? "\r\u001b[2K" : ""}${text}\n`);
    open = false;
  };
  const progress = ({ bytes, totalBytes, fetchedBytes }: Progress): void => {
    const at = now();
    if (at - (marks.at(-1)?.at ?? -Infinity) >= LIVE_MS) marks.push({ at, fetchedBytes });
    while (marks.length > 2 && at - (marks[0]?.at ?? at) > WINDOW_MS) marks.shift();
    if (at - shownAt < (live ? LIVE_MS : PLAIN_MS)) return;
    shownAt = at;
    const first = marks[0];
    const rate = first && at > first.at ? ((fetchedBytes - first.fetchedBytes) * 1000) / (at - first.at) : 0;
    const left =
      rate > 0
        ? `  ${formatBytes(Math.round(rate))}/s  left ${formatSeconds((totalBytes - bytes) / rate)}`
        : "";
    const text = `${formatBytes(bytes)} of ${formatBytes(totalBytes)} (${Math.floor((100 * bytes) / Math.max(1, totalBytes))} %)${left}`;
    if (!live) return line(text);
    out.write(`\r\u001b[2K${text.slice(0, (out.columns ?? 100) - 1)}`);
    open = true;
  };
  return (event) => {
    switch (event.type) {
      case "listed": {
        const what = `${event.repo} at ${event.commit.slice(0, 12)}: ${event.files} files, ${formatBytes(event.bytes)}`;
        return line(
          event.bytesToFetch === 0
            ? `${what}, in the cache`
            : `${what}, ${formatBytes(event.bytesToFetch)} to download`,
        );
      }
      case "headers":
        return line(
          `${event.repo} at ${event.commit.slice(0, 12)}: ${formatBytes(event.fetchedBytes)} of configuration and headers; all ${event.files} files have ${formatBytes(event.bytes)}`,
        );
      case "progress":
        return progress(event);
      case "file":
        return line(`${event.path}  ${formatBytes(event.bytes)}`);
      case "message":
        return line(event.text);
      default:
        event satisfies never;
    }
  };
}
