/** metrics.jsonl: one line per logged step or evaluation, written when it happens. Never NaN, never null. */
import { openSync, writeSync, closeSync } from "node:fs";
import type { Listener } from "../train/events.js";

/** Numbers as JSON; a step that is not finite leaves the key out rather than writing null. */
const finite = (fields: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => Number.isFinite(value)));

export interface MetricsWriter {
  readonly listen: Listener;
  close(): void;
}

/** @param path the file; an older one is replaced */
export function metricsWriter(path: string): MetricsWriter {
  const file = openSync(path, "w");
  const line = (fields: Record<string, number>): void => {
    writeSync(file, `${JSON.stringify(finite(fields))}\n`);
  };
  return {
    listen: (event) => {
      if (event.type === "step" && event.logged) {
        line({
          step: event.step,
          loss: event.loss,
          grad_norm: event.gradNorm,
          learning_rate: event.learningRate,
          epoch: event.epoch,
          tokens: event.tokens,
          tokens_per_second: event.tokensPerSecond,
          gpu_bytes: event.gpuBytes,
        });
      } else if (event.type === "evaluation") {
        line({ step: event.step, eval_loss: event.loss, epoch: event.epoch });
      }
    },
    close: () => closeSync(file),
  };
}
