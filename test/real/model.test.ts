/** A real model (SmolLM2-135M-Instruct) against transformers, bitsandbytes and PEFT: see test/fixtures/smollm2/README.md. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { describe, expect, it } from "vitest";
import { Generator } from "../../src/generate/generator.js";
import { FIXTURES, floatTensors, readJson } from "../fixture_files.js";
import { useGpu } from "../kernels/harness.js";
import { readyMadeNf4 } from "../model/ready_made.js";
import { wholeLogits } from "../model/whole_logits.js";
import { trainOnGpu } from "../train/golden_gpu.js";
import {
  expectGradients,
  expectSteps,
  expectUpdate,
  goldenConfig,
  goldenSteps,
} from "../train/golden_run.js";

const folder = process.env["QDORA_SMOLLM2"] ?? "";
const fixtures = join(FIXTURES, "smollm2");

interface Expected {
  readonly model_safetensors_sha256: string;
  readonly greedy: readonly { readonly prompt_ids: readonly number[]; readonly new_ids: readonly number[] }[];
  readonly nll: Readonly<
    Record<"bf16_base" | "nf4" | "nf4_dq", { readonly mean_nll: number; readonly first8: readonly number[] }>
  > & {
    readonly ids: readonly number[];
  };
}

const expected = readJson(fixtures, "expected.json") as Expected;
const context = useGpu();

/** -log softmax(logits[t])[ids[t + 1]] of each position. */
function tokenLosses(logits: Float32Array, ids: readonly number[]): number[] {
  const vocab = logits.length / ids.length;
  return ids.slice(1).map((label, t) => {
    const row = logits.subarray(t * vocab, (t + 1) * vocab);
    const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
    return Math.log(row.reduce((sum, v) => sum + Math.exp(v - top), 0)) + top - row[label]!;
  });
}

const argmax = (values: Float32Array): number =>
  values.reduce((best, v, i) => (v > values[best]! ? i : best), 0);

describe("SmolLM2-135M", () => {
  it("is the model the golden numbers belong to", async () => {
    const hash = createHash("sha256");
    await pipeline(createReadStream(join(folder, "model.safetensors")), hash);
    expect(hash.digest("hex")).toBe(expected.model_safetensors_sha256);
  });

  // Tolerances of the fixture's README; double quantisation here follows the CUDA rule.
  for (const [name, how, tolerance] of [
    ["bf16_base", { quant: "none", doubleQuant: false }, 1e-4],
    ["nf4", { quant: "nf4", doubleQuant: false }, 1e-4],
    ["nf4_dq", { quant: "nf4", doubleQuant: true }, 1e-3],
  ] as const) {
    it(`NLL of a text: ${name}`, async () => {
      const { ids } = expected.nll;
      const logits = await wholeLogits(folder, how, [ids], context.gpu);
      const losses = tokenLosses(logits, ids);
      expect(
        Math.abs(losses.reduce((a, b) => a + b, 0) / losses.length - expected.nll[name].mean_nll),
      ).toBeLessThan(tolerance);
      const stored = await floatTensors(join(fixtures, "nll_logits.safetensors"));
      const last = logits.subarray((ids.length - 1) * (logits.length / ids.length));
      const want = stored.get(`last_logits_${name}`)!;
      // Logits reach 20; another attention kernel moves them by 4e-5, the other rule of double quantisation by more.
      expect(last.reduce((worst, v, i) => Math.max(worst, Math.abs(v - want[i]!)), 0)).toBeLessThan(
        name === "nf4_dq" ? 0.2 : 1e-3,
      );
    });
  }

  it("greedy continuations", async () => {
    const longest = Math.max(...expected.greedy.map((g) => g.prompt_ids.length + g.new_ids.length));
    const generator = await Generator.open({
      model: folder,
      quant: "none",
      doubleQuant: false,
      context: longest,
    });
    try {
      for (const { prompt_ids, new_ids } of expected.greedy) {
        generator.reset();
        const got = [argmax(await generator.feed(prompt_ids))];
        while (got.length < new_ids.length) got.push(argmax(await generator.feed([got.at(-1)!])));
        expect(got).toEqual(new_ids);
      }
    } finally {
      await generator.close();
    }
  });

  it("ten steps of QDoRA as PEFT takes them", async () => {
    const run = join(fixtures, "training");
    // The golden run's block maxima follow bitsandbytes' CPU rule; qdora's own follow the CUDA rule, see the next test.
    const model = await readyMadeNf4(folder);
    const result = await trainOnGpu(await goldenConfig(run, model), context.gpu);
    // B starts at 0, and Adam turns tiny gradients into full steps: the README allows this much.
    const tolerance = { loss: 2e-4, gradNorm: 1e-3, update: 2e-2, gradient: 5e-3 };
    expectSteps(result.steps, goldenSteps(run), tolerance);
    await expectGradients(run, result.gradients, tolerance, false);
    await expectUpdate(run, result.adapter, tolerance);
    expect(result.ledgerBytes).toBe(result.run.plan.totalBytes);
    rmSync(model, { recursive: true });
  });

  it("the same steps with qdora's own double quantisation", async () => {
    const run = join(fixtures, "training");
    const config = await goldenConfig(run, folder);
    const result = await trainOnGpu({ ...config, max_steps: 3, lr_scheduler: "constant" }, context.gpu);
    // One block maximum in 550 is a step of the 8-bit map off: the README allows 1e-3 in the NLL.
    for (const [i, step] of result.steps.entries())
      expect(Math.abs(step.loss / goldenSteps(run)[i]!.loss - 1)).toBeLessThan(2e-3);
  });

  it("qdora finetune takes 20 steps on chats", () => {
    const out = mkdtempSync(join(tmpdir(), "qdora-real-"));
    const cli = join(import.meta.dirname, "../../dist/cli.js");
    const args = [
      "finetune",
      "--model",
      folder,
      "--data",
      join(fixtures, "messages.jsonl"),
      "--output-dir",
      out,
      "--max-steps",
      "20",
      "--batch-size",
      "2",
      "--gradient-accumulation-steps",
      "1",
      "--max-seq-length",
      "128",
      "--tune",
      "off",
    ];
    const result = spawnSync(process.execPath, [cli, ...args], { encoding: "utf8" });
    expect(result.status, result.stderr).toBe(0);
    console.log(
      result.stderr
        .split("\n")
        .filter((line) => /step 20|memory:|loaded|trained/.test(line))
        .join("\n"),
    );
    const steps = readFileSync(join(out, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { step: number; loss: number });
    expect(steps.map((s) => s.step)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    const mean = (part: typeof steps): number => part.reduce((sum, s) => sum + s.loss, 0) / part.length;
    expect(mean(steps.slice(-10))).toBeLessThan(mean(steps.slice(0, 10)));
    rmSync(out, { recursive: true });
  });
});
