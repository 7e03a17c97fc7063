/** The memory plan as a table. */
import type { MemoryPlan } from "../program/planner.js";
import type { Kind } from "../program/tensor.js";
import { formatBytes } from "./format.js";

const WORDS: Record<Kind, string> = {
  weight: "frozen weights of the layers",
  embedding: "token embedding (also the head where tied)",
  head: "output head",
  adapter: "trained factors and magnitudes",
  row_norm: "row norms and scales",
  gradient: "gradients of the adapter",
  moment: "optimizer state",
  checkpoint: "layer inputs kept for backward",
  cache: "keys and values",
  logits: "one chunk of logits",
  workspace: "activations, in shared slots",
  staging: "inputs and read-back",
  uniform: "sizes of all kernel calls",
};

/** Bytes by class, largest first, and the sum. */
export function planTable(plan: MemoryPlan): string {
  const rows = [...plan.bytesByKind].toSorted((a, b) => b[1] - a[1]);
  const width = Math.max(...rows.map(([kind]) => kind.length), 5);
  const lines = rows.map(
    ([kind, bytes]) => `  ${kind.padEnd(width)}  ${formatBytes(bytes).padStart(8)}  ${WORDS[kind]}`,
  );
  return [...lines, `  ${"total".padEnd(width)}  ${formatBytes(plan.totalBytes).padStart(8)}`].join("\n");
}

/** The plan as the JSON object of `--json`. */
export function planJson(plan: MemoryPlan): {
  readonly gpu_bytes: number;
  readonly gpu: Record<string, number>;
} {
  return { gpu_bytes: plan.totalBytes, gpu: Object.fromEntries(plan.bytesByKind) };
}
