/**
 * PEFT's numbers at other subgroup sizes: the software GPU has lanes of 4, 8 or 16 by LP_NATIVE_VECTOR_WIDTH. (Matrices it has with 8
 * alone: none with 4, and with 16 it crashes.)
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readPeftAdapter } from "../../src/formats/peft.js";
import { openGpu } from "../../src/gpu/device.js";
import { FIXTURES, readJson } from "../fixture_files.js";
import { expectUpdate, goldenSteps, relative, TOLERANCES } from "../train/golden_run.js";
import { qdora, storyFolder } from "./qdora.js";

const gpu = await openGpu();
const isLavapipe = /llvmpipe/i.test(gpu.traits.name);
await gpu.destroy();
const folder = storyFolder();
const GOLDEN = join(FIXTURES, "training", "qdora_llama");

/** The golden run's settings as flags. */
function flags(out: string): readonly string[] {
  const run = readJson(GOLDEN, "run.json") as Readonly<Record<string, unknown>>;
  const settings: Readonly<Record<string, unknown>> = {
    ...run,
    model: join(GOLDEN, String(run["model"])),
    data: join(GOLDEN, String(run["data"])),
    init_adapter: join(GOLDEN, String(run["init_adapter"])),
    output_dir: out,
    tune: "off",
  };
  return Object.entries(settings).flatMap(([key, value]) => {
    const flag = key.replaceAll("_", "-");
    if (typeof value === "boolean") return [value ? `--${flag}` : `--no-${flag}`];
    if (Array.isArray(value)) return [`--${flag}`, value.join()];
    // Empty patterns are the default.
    return typeof value === "string" || typeof value === "number" ? [`--${flag}`, String(value)] : [];
  });
}

it.skipIf(!isLavapipe).for(["128", "512"])("with lanes of %s bits", async (width) => {
  const env = { LP_NATIVE_VECTOR_WIDTH: width, QDORA_VARIANT: "software" };
  const doctor = await qdora(["doctor", "--json"], { env });
  expect(doctor.stdout).toMatch(new RegExp(`"subgroup\\w*":\\D*${Number(width) / 32}\\b`, "i"));
  const out = join(folder, width);
  const run = await qdora(["finetune", ...flags(out)], { env });
  expect(run.status, run.stderr).toBe(0);
  const steps = goldenSteps(GOLDEN);
  const variants = readJson(out, `checkpoint-${steps.length}`, "kernel_variants.json") as object;
  expect(Object.values(variants)).toContain("software");
  const lines = readFileSync(join(out, "metrics.jsonl"), "utf8").trim().split("\n");
  const losses = lines.map((line) => (JSON.parse(line) as { readonly loss: number }).loss);
  expect(losses).toHaveLength(steps.length);
  for (const [i, want] of steps.entries())
    expect(relative(losses[i]!, want.loss), `loss of step ${i + 1}`).toBeLessThan(TOLERANCES.loss);
  const { tensors } = await readPeftAdapter(out);
  await expectUpdate(GOLDEN, new Map([...tensors].map(([name, t]) => [name, t.data])), TOLERANCES);
});
