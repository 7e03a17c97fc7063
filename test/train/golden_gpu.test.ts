import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FIXTURES } from "../fixture_files.js";
import { useGpu } from "../kernels/harness.js";
import { readyMadeNf4 } from "../model/ready_made.js";
import { trainOnGpu } from "./golden_gpu.js";
import {
  DOUBLE_QUANT_TOLERANCES,
  expectGradients,
  expectSteps,
  expectUpdate,
  goldenConfig,
  goldenSteps,
  TOLERANCES,
} from "./golden_run.js";

const context = useGpu();

const CASES = [
  "dora_llama",
  "qdora_llama",
  "qdora_llama_dq",
  "qdora_qwen2",
  "qdora_rslora_llama",
  "qlora_llama",
];

describe("a run on the GPU gives PEFT's numbers", () => {
  for (const name of CASES) {
    it(name, async () => {
      const folder = join(FIXTURES, "training", name);
      const tolerance = name === "qdora_llama_dq" ? DOUBLE_QUANT_TOLERANCES : TOLERANCES;
      const result = await trainOnGpu(await goldenConfig(folder), context.gpu);
      expectSteps(result.steps, goldenSteps(folder), tolerance);
      await expectGradients(folder, result.gradients, tolerance);
      await expectUpdate(folder, result.adapter, tolerance);
      expect(result.ledgerBytes, "planned bytes are the ledger's bytes").toBe(result.run.plan.totalBytes);
    });
  }

  it("qdora_llama_dq, from a checkpoint made by the same rule of double quantisation", async () => {
    const folder = join(FIXTURES, "training", "qdora_llama_dq");
    const model = await readyMadeNf4(join(FIXTURES, "models", "llama"));
    const result = await trainOnGpu(await goldenConfig(folder, model), context.gpu);
    expectSteps(result.steps, goldenSteps(folder), TOLERANCES);
    await expectGradients(folder, result.gradients, TOLERANCES);
    await expectUpdate(folder, result.adapter, TOLERANCES);
    await rm(model, { recursive: true });
  });

  it("twice the same bits", async () => {
    const config = await goldenConfig(join(FIXTURES, "training", "qdora_llama"));
    const short = { ...config, max_steps: 3 };
    const [first, second] = [await trainOnGpu(short, context.gpu), await trainOnGpu(short, context.gpu)];
    expect(second.steps).toEqual(first.steps);
    expect(second.adapter).toEqual(first.adapter);
  });

  it("the same numbers whatever is kept for backward", async () => {
    const config = await goldenConfig(join(FIXTURES, "training", "qdora_qwen2"));
    const runs = [];
    for (const gradient_checkpointing of ["full", "selective", "none"] as const) {
      runs.push(await trainOnGpu({ ...config, max_steps: 2, gradient_checkpointing }, context.gpu));
    }
    const [full, selective, none] = runs;
    for (const run of [selective, none]) {
      expect(run?.steps).toEqual(full?.steps);
      expect(run?.adapter).toEqual(full?.adapter);
      expect(run?.ledgerBytes).toBeGreaterThan(full?.ledgerBytes ?? Infinity);
    }
  });
});
