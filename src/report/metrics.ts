/** metrics.jsonl: one line per logged step or evaluation, written when it happens. Never NaN, never null. */
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { QdoraError } from "../formats/error.js";
import type { EvaluationEvent, Listener, RollbackEvent, StepEvent } from "../train/events.js";

/** One line. A number that is not finite leaves its key out rather than being null. */
export type MetricsLine = Readonly<Record<string, number>>;

const finite = (fields: MetricsLine): MetricsLine =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => Number.isFinite(value)));

export const stepLine = (e: StepEvent): MetricsLine =>
  finite({
    step: e.step,
    loss: e.loss,
    grad_norm: e.gradNorm,
    learning_rate: e.learningRate,
    epoch: e.epoch,
    tokens: e.tokens,
    tokens_per_second: e.tokensPerSecond,
    gpu_bytes: e.gpuBytes,
  });

export const evaluationLine = (e: EvaluationEvent): MetricsLine =>
  finite({ step: e.step, eval_loss: e.loss, epoch: e.epoch });

/** At the step that the run went back to. */
export const rollbackLine = (e: RollbackEvent): MetricsLine =>
  finite({ step: e.to, rollback: e.count, spike_step: e.step, spike_loss: e.loss, spike_limit: e.limit });

export interface MetricsWriter {
  readonly listen: Listener;
  close(): void;
}

/**
 * @param path the file
 * @param isResumed go on after what is there; else an older file is replaced
 */
export function metricsWriter(path: string, isResumed = false): MetricsWriter {
  const file = openSync(path, isResumed ? "a" : "w");
  const line = (fields: MetricsLine): void => {
    try {
      writeSync(file, `${JSON.stringify(fields)}\n`);
    } catch (cause) {
      const reason = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
      throw new QdoraError(
        path,
        `cannot be written (${reason === "ENOSPC" ? "the disk is full" : reason})`,
        "checkpoints are kept: free some space, then go on with --resume",
        { cause },
      );
    }
  };
  return {
    listen: (event) => {
      if (event.type === "step" && event.logged) line(stepLine(event));
      else if (event.type === "evaluation") line(evaluationLine(event));
      else if (event.type === "rollback") line(rollbackLine(event));
      else if (event.type === "saved") {
        // Its lines must not be lost where the checkpoint is not.
        fsyncSync(file);
      }
    },
    close: () => closeSync(file),
  };
}
