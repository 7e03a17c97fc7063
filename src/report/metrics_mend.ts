/** metrics.jsonl of a run that goes on from a checkpoint: what was written after it, or was cut off while it was written, goes. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { writeFileAtomic } from "../formats/files.js";
import type { MetricsLine } from "./metrics.js";

function readLine(text: string): MetricsLine | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("step" in value)) return undefined;
    return Object.values(value).every((v) => typeof v === "number") ? (value as MetricsLine) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Keeps the lines up to a step, each of them once.
 * @param evaluationPending the evaluation after that step will be made again
 * @param rollbacks the checkpoint, or who goes back to it, knows of so many; their lines stay, whatever their step
 * @returns the lines that stay
 */
export async function mendMetrics(
  path: string,
  step: number,
  evaluationPending: boolean,
  rollbacks = 0,
): Promise<readonly MetricsLine[]> {
  if (!existsSync(path)) return [];
  const kept = new Map<string, MetricsLine>();
  for (const text of (await readFile(path, "utf8")).split("\n")) {
    const line = readLine(text);
    const at = line?.["step"];
    if (line === undefined || at === undefined) continue;
    const { rollback } = line;
    if (rollback === undefined ? at > step : rollback > rollbacks) continue;
    const isEvaluation = "eval_loss" in line;
    if (isEvaluation && at === step && evaluationPending) continue;
    const key =
      rollback === undefined ? `${isEvaluation ? "evaluation" : "step"} ${at}` : `rollback ${rollback}`;
    if (!kept.has(key)) kept.set(key, line);
  }
  const lines = [...kept.values()];
  await writeFileAtomic(path, lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  return lines;
}
