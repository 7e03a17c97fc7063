/** The tiny model trained in f32 and with f16 products, as users start it: the same curve, the same held-out loss. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { useGpu } from "../kernels/harness.js";
import { qdora, storyFolder, TINY } from "./qdora.js";

const context = useGpu();
const folder = storyFolder();
const STEPS = 100;

interface Line {
  readonly step: number;
  readonly loss?: number;
  readonly eval_loss?: number;
}

async function train(computeDtype: string): Promise<readonly Line[]> {
  const output = join(folder, computeDtype);
  const settings = {
    model: TINY,
    data: join(TINY, "demo", "train.jsonl"),
    output_dir: output,
    compute_dtype: computeDtype,
    batch_size: 1,
    gradient_accumulation_steps: 1,
    gradient_checkpointing: "none",
    max_seq_length: 32,
    max_steps: STEPS,
    learning_rate: "5e-4",
    val_size: 4,
    tune: "off",
  };
  const flags = Object.entries(settings).flatMap(([key, value]) => [
    `--${key.replaceAll("_", "-")}`,
    String(value),
  ]);
  // The software GPU would choose its f32 products otherwise.
  const run = await qdora(["finetune", ...flags], { env: { QDORA_VARIANT: "matrix" } });
  if (run.status !== 0) throw new Error(run.stderr);
  const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as Line);
}

it(
  "compute_dtype f16 follows f32's losses to 0.5 %, and its held-out loss to 0.2 %",
  { timeout: 600_000 },
  async ({ skip }) => {
    skip(context.gpu.traits.matrixShapes.length === 0, "this adapter has no matrices");
    const [exact, half] = [await train("f32"), await train("f16")];
    const losses = (lines: readonly Line[]): readonly number[] => lines.flatMap((l) => l.loss ?? []);
    const held = (lines: readonly Line[]): number => lines.flatMap((l) => l.eval_loss ?? []).at(-1) ?? NaN;
    expect(losses(half)).toHaveLength(STEPS);
    expect(losses(half)).not.toEqual(losses(exact));
    expect(losses(exact).at(-1)!).toBeLessThan(0.7 * losses(exact)[0]!);
    for (const [i, loss] of losses(half).entries())
      expect(Math.abs(loss / losses(exact)[i]! - 1), `loss of step ${i + 1}`).toBeLessThan(0.005);
    expect(Math.abs(held(half) / held(exact) - 1)).toBeLessThan(0.002);
  },
);
