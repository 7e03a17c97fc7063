/** The tiny model trained with f32 and with 8-bit moments, as users start it: the same curve for fewer bytes. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { qdora, storyFolder, TINY } from "./qdora.js";

const folder = storyFolder();
const STEPS = 60;

interface Step {
  readonly step: number;
  readonly loss: number;
  readonly gpu_bytes: number;
}

const command = (optimizer: string): string[] => [
  ..."finetune --batch-size 2 --gradient-accumulation-steps 1 --gradient-checkpointing none --tune off".split(
    " ",
  ),
  "--model",
  TINY,
  "--data",
  join(TINY, "demo", "train.jsonl"),
  "--output-dir",
  join(folder, optimizer),
  "--max-steps",
  String(STEPS),
  "--learning-rate",
  "1e-3",
  "--optimizer",
  optimizer,
];

async function train(optimizer: string): Promise<readonly Step[]> {
  const run = await qdora(command(optimizer));
  if (run.status !== 0) throw new Error(run.stderr);
  return readFileSync(join(folder, optimizer, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Step);
}

async function plan(optimizer: string): Promise<{ gpu_bytes: number; gpu: Record<string, number> }> {
  const run = await qdora([...command(optimizer), "--dry-run", "--json"]);
  return JSON.parse(run.stdout) as { gpu_bytes: number; gpu: Record<string, number> };
}

it("adamw8bit follows adamw's losses to 0.5 % and needs the bytes of its plan", async () => {
  const [wide, narrow] = [await train("adamw"), await train("adamw8bit")];
  expect(narrow).toHaveLength(STEPS);
  // The loss falls from 4.5 to 0.7, and the runs drift apart by 0.25 % at most. The demo's rate is five times this one:
  // there the loss falls to 0.13, and single steps are up to 0.9 % lower with 8-bit moments.
  expect(wide.at(-1)!.loss).toBeLessThan(0.25 * wide[0]!.loss);
  for (const [i, { loss, step }] of narrow.entries())
    expect(Math.abs(loss / wide[i]!.loss - 1), `loss of step ${step}`).toBeLessThan(0.005);
  expect(narrow.at(-1)!.loss).not.toBe(wide.at(-1)!.loss);

  const [widePlan, narrowPlan] = [await plan("adamw"), await plan("adamw8bit")];
  expect(narrow.at(-1)!.gpu_bytes).toBe(narrowPlan.gpu_bytes);
  // 2.03 bytes of 8 for factors; magnitudes keep their 8.
  expect(narrowPlan.gpu["moment"]! / widePlan.gpu["moment"]!).toBeLessThan(0.3);
  expect(narrowPlan.gpu["moment"]! / widePlan.gpu["moment"]!).toBeGreaterThan(2.03125 / 8);
});
