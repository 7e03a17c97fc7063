/** The same numbers at other subgroup sizes: the software GPU has lanes of 4, 8 or 16 by LP_NATIVE_VECTOR_WIDTH. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openGpu } from "../../src/gpu/device.js";
import { qdora, storyFolder, TINY } from "./qdora.js";

const gpu = await openGpu();
const isLavapipe = /llvmpipe/i.test(gpu.traits.name);
await gpu.destroy();
const folder = storyFolder();

async function losses(width: string): Promise<readonly number[]> {
  const out = join(folder, width);
  const flags = `finetune --model ${TINY} --data ${TINY}/demo --output-dir ${out} --max-steps 3 --batch-size 4 --gradient-accumulation-steps 1 --learning-rate 5e-3 --warmup-steps 0 --compute-dtype f32 --tune off`;
  const env = { LP_NATIVE_VECTOR_WIDTH: width };
  const doctor = await qdora(["doctor", "--json"], { env });
  expect(doctor.stdout).toMatch(new RegExp(`"subgroup\\w*":\\D*${Number(width) / 32}\\b`, "i"));
  const run = await qdora(flags.split(" "), { env });
  expect(run.status, run.stderr).toBe(0);
  return readFileSync(join(out, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { loss?: number; eval_loss?: number })
    .map(({ loss, eval_loss }) => loss ?? eval_loss ?? NaN);
}

it.skipIf(!isLavapipe)("trains to the same losses with subgroups of 4 and of 16", async () => {
  const [four, sixteen] = [await losses("128"), await losses("512")];
  expect(four.length).toBeGreaterThan(3);
  // Sums in another order, three steps at a large learning rate: 2e-7 was seen.
  for (const [i, loss] of four.entries()) expect(Math.abs(loss / sixteen[i]! - 1)).toBeLessThan(1e-5);
});
