/** A run on a GPU whose matrices are wrong: said in one line, and trained on plain kernels. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { openGpu } from "../../src/gpu/device.js";
import { hasHalfMatrices } from "../../src/kernels/product_matrix.js";
import type { TrainingEvent } from "../../src/train/events.js";
import { train } from "../../src/train/trainer.js";

vi.mock(import("../../src/kernels/trusted_gpu.js"), async (original) => {
  const real = await original();
  const trial = (): Promise<readonly string[]> => Promise.resolve(["product forward (matrix) by 1.9"]);
  return {
    ...real,
    openTrusted: (options, say) => real.openTrusted(options, say, { trial, onSoftware: true }),
  };
});

const folder = mkdtempSync(join(tmpdir(), "qdora-distrust-"));
const before = { cache: process.env["QDORA_CACHE"], variant: process.env["QDORA_VARIANT"] };
const restore = (name: string, value: string | undefined): void => {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
};
let hasMatrices = false;
beforeAll(async () => {
  process.env["QDORA_CACHE"] = join(folder, "cache");
  const gpu = await openGpu();
  hasMatrices = hasHalfMatrices(gpu.traits);
  await gpu.destroy();
});
afterEach(() => restore("QDORA_VARIANT", before.variant));
afterAll(() => {
  restore("QDORA_CACHE", before.cache);
  rmSync(folder, { recursive: true });
});

/** One step. */
async function events(compute_dtype: "f32" | "f16", variant: string | undefined) {
  restore("QDORA_VARIANT", variant);
  const config = await resolveFinetuneConfig({
    model: "test/fixtures/models/llama",
    data: "test/fixtures/training/qdora_llama/data.jsonl",
    output_dir: join(folder, "never-written"),
    max_steps: 1,
    gradient_accumulation_steps: 1,
    compute_dtype,
    tune: "off",
  });
  const told: TrainingEvent[] = [];
  await train(config, (event) => void told.push(event));
  return told;
}

const messages = (told: readonly TrainingEvent[]): readonly string[] =>
  told.flatMap((e) => (e.type === "message" ? [e.text] : []));
const numbers = (told: readonly TrainingEvent[]): readonly (readonly number[])[] =>
  told.flatMap((e) => (e.type === "step" ? [[e.loss, e.gradNorm]] : []));

it("trains without them, whoever asks for them", async ({ skip }) => {
  skip(!hasMatrices, "this adapter has no f16 matrices");
  const [forced, plain] = [await events("f16", "matrix"), await events("f16", undefined)];
  expect(messages(forced)).toEqual([
    "trying this GPU's matrix units (once)",
    expect.stringMatching(/^note: the matrix units of .* give wrong numbers/),
  ]);
  expect(forced.find((e) => e.type === "gpu")).toMatchObject({ halfProducts: false });
  expect(numbers(forced)).toEqual(numbers(plain));
  expect(numbers(forced).flat().every(Number.isFinite)).toBe(true);
});

it("asks nothing where products are f32", async () => {
  expect(messages(await events("f32", undefined))).toEqual([]);
});
