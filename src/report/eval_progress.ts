/** Progress of an evaluation, on stderr: one line that is rewritten on a terminal, a line now and then elsewhere. */
import { formatBytes } from "../formats/bytes.js";
import { formatRate, formatSeconds } from "./format.js";
import type { Output } from "./progress.js";

const LIVE_MS = 200;
const PLAIN_MS = 10_000;

export interface EvaluationProgress {
  readonly type: "progress";
  readonly which: "model" | "base";
  readonly unit: "tokens" | "answers";
  readonly done: number;
  readonly total: number;
}

type Event =
  | { readonly type: "gpu"; readonly name: string; readonly isSoftware: boolean }
  | { readonly type: "message"; readonly text: string }
  | { readonly type: "loading"; readonly bytes: number }
  | EvaluationProgress;

export interface EvaluationPrinter {
  readonly listen: (event: Event) => void;
  /** Clears the line that is being rewritten. */
  readonly end: () => void;
}

/** @param now a clock in milliseconds */
export function evaluationPrinter(
  out: Output,
  now: () => number = () => performance.now(),
): EvaluationPrinter {
  const live = out.isTTY === true;
  let open = false;
  let gpu = "";
  let phase = "";
  let [began, shownAt] = [now(), now()];
  const line = (text: string): void => {
    out.write(`${open ? "\r\u001b[2K" : ""}${text}\n`);
    open = false;
  };
  const transient = (text: string): void => {
    out.write(`\r\u001b[2K${text.slice(0, (out.columns ?? 100) - 1)}`);
    open = true;
  };
  const progress = (e: EvaluationProgress): void => {
    const at = now();
    if (phase !== `${e.which} ${e.unit}`) [phase, began, shownAt] = [`${e.which} ${e.unit}`, at, at];
    if (at - shownAt < (live ? LIVE_MS : PLAIN_MS)) return;
    shownAt = at;
    const rate = (e.done * 1000) / Math.max(1, at - began);
    const who = e.which === "base" ? "base: " : "";
    const part = `${e.done.toLocaleString("en-US")} of ${e.total.toLocaleString("en-US")} ${e.unit}`;
    const text = `${who}${part}  ${formatRate(rate)}/s  left ${formatSeconds((e.total - e.done) / rate)}`;
    if (live) transient(text);
    else line(text);
  };
  return {
    listen: (event) => {
      switch (event.type) {
        case "gpu":
          if (event.name !== gpu)
            line(`gpu: ${event.name}${event.isSoftware ? " (software: right, but slow)" : ""}`);
          gpu = event.name;
          return;
        case "message":
          return line(event.text);
        case "loading":
          if (live) transient(`loading and quantising: ${formatBytes(event.bytes)}`);
          return;
        case "progress":
          return progress(event);
        default:
          return event satisfies never;
      }
    },
    end: () => {
      if (open) out.write("\r\u001b[2K");
      open = false;
    },
  };
}
