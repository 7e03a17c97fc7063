/** A small run of the command line for stories about checkpoints: NF4 DoRA, accumulation over three micro-batches, packing, several epochs. */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { LLAMA, qdora, writeRows, type Finished } from "./qdora.js";

/** 45 rows, packed into about 15 units: five steps of three micro-batches in an epoch, the last of them short. */
export function writeSettings(folder: string): string {
  const rows = Array.from({ length: 45 }, (_, i) => ({
    input_ids: Array.from({ length: 6 + (i % 9) }, (_token, t) => 1 + ((i * 7 + t * t * 3) % 300)),
  }));
  const path = join(folder, "run.yaml");
  writeFileSync(
    path,
    `
model: ${LLAMA}
data: ${writeRows(join(folder, "train.jsonl"), rows)}
rank: 4
packing: true
max_seq_length: 32
batch_size: 1
gradient_accumulation_steps: 3
max_steps: 20
learning_rate: 5.0e-3
seed: 7
tune: "off"
`,
  );
  return path;
}

export type Line = Readonly<Record<string, number>>;

/** metrics.jsonl without what the clock says. */
export const numbers = (out: string): readonly Line[] =>
  readFileSync(join(out, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((text) => {
      const { tokens_per_second: _, ...line } = JSON.parse(text) as Line;
      return line;
    });

export const checkpoints = (out: string): readonly string[] =>
  existsSync(out)
    ? readdirSync(out)
        .filter((name) => name.startsWith("checkpoint-"))
        .toSorted()
    : [];

export function expectSameBytes(a: string, b: string, ...names: readonly string[]): void {
  for (const name of names)
    expect(readFileSync(join(b, name)).equals(readFileSync(join(a, name))), name).toBe(true);
}

/** A folder as a run leaves it that was killed after one of its checkpoints. */
export function copyUpTo(from: string, to: string, ...names: readonly string[]): string {
  mkdirSync(to);
  for (const name of names) cpSync(join(from, name), join(to, name), { recursive: true });
  for (const name of ["metrics.jsonl", "qdora_config.yaml"]) copyFileSync(join(from, name), join(to, name));
  return to;
}

export async function succeed(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Finished> {
  const run = await qdora(args, { env });
  expect(run.status, run.stderr).toBe(0);
  return run;
}
