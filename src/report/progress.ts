/** Progress for people, on stderr: one line that is rewritten on a terminal, one line per logged step elsewhere. */
import type { Listener, StepEvent } from "../train/events.js";
import { formatBytes } from "../formats/bytes.js";
import { formatRate, formatSeconds } from "./format.js";

export interface Output {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

const stepLine = (e: StepEvent): string =>
  [
    `step ${e.step}/${e.totalSteps}`,
    `loss ${e.loss.toFixed(4)}`,
    `lr ${e.learningRate.toExponential(2)}`,
    `grad ${e.gradNorm.toFixed(3)}`,
    `${formatRate(e.tokensPerSecond)} tok/s`,
    `gpu ${formatBytes(e.gpuBytes)}`,
    `left ${formatSeconds(e.secondsLeft)}`,
  ].join("  ");

/** Listens to a run and shows it. */
export function progressPrinter(out: Output): Listener {
  const live = out.isTTY === true;
  let open = false;
  const transient = (text: string): void => {
    out.write(`\r\u001b[2K${text.slice(0, (out.columns ?? 100) - 1)}`);
    open = true;
  };
  const line = (text: string): void => {
    out.write(`${open ? "\r\u001b[2K" : ""}${text}\n`);
    open = false;
  };
  return (event) => {
    switch (event.type) {
      case "prepared":
        return;
      case "saved":
        line(`saved ${event.folder}`);
        return;
      case "gpu":
        line(
          `gpu: ${event.name}${event.isSoftware ? " (software: right, but slow)" : ""}; products ${event.halfProducts ? "may run in f16, on its matrix units" : "in f32"}`,
        );
        return;
      case "message":
        line(event.text);
        return;
      case "loading":
        if (live) transient(`loading and quantising: ${formatBytes(event.bytes)}`);
        return;
      case "started":
        line(`loaded in ${formatSeconds(event.seconds)}`);
        return;
      case "step":
        if (live) transient(stepLine(event));
        if (!live && event.logged) line(stepLine(event));
        return;
      case "evaluation":
        line(
          `step ${event.step}  held-out loss ${event.loss.toFixed(4)}  perplexity ${Math.exp(event.loss).toFixed(2)}`,
        );
        return;
      case "rollback": {
        const data = event.leftOut === 1 ? "its data is" : `the data of ${event.leftOut} steps up to it is`;
        line(
          `step ${event.step}: loss ${event.loss.toFixed(4)} is a spike (limit ${event.limit.toFixed(4)}): back to checkpoint-${event.to}, ${data} left out (rollback ${event.count})`,
        );
        return;
      }
      case "finished":
        if (open) line("");
        line(
          `trained ${event.step} ${event.step === 1 ? "step" : "steps"} in ${formatSeconds(event.seconds)}`,
        );
        return;
      default:
        event satisfies never;
    }
  };
}
