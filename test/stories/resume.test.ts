/** Checkpoints through the command line: ten steps and ten more are twenty, whatever lay in between. */
import { appendFileSync, cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { expectRefused, LLAMA, qdora, storyFolder } from "./qdora.js";
import { checkpoints, copyUpTo, expectSameBytes, numbers, succeed, writeSettings } from "./training.js";

const folder = storyFolder();
const settings = writeSettings(folder);
const straight = join(folder, "straight");
const finetune = (out: string, ...more: readonly string[]): string[] => [
  "finetune",
  "--config",
  settings,
  "--output-dir",
  out,
  ...more,
];
const resume = (out: string, ...more: readonly string[]): string[] => finetune(out, "--resume", ...more);

beforeAll(async () => {
  // Kernels that nothing would choose by itself: a resumed run must remember them.
  await succeed(finetune(straight, "--save-steps", "5", "--save-total-limit", "3"), {
    QDORA_VARIANT: "tile",
  });
});

describe("a run with save_steps", () => {
  it("keeps the newest checkpoints, the last step among them, and each is an adapter", async () => {
    expect(checkpoints(straight)).toEqual(["checkpoint-10", "checkpoint-15", "checkpoint-20"]);
    expect(readdirSync(join(straight, "checkpoint-20"))).toEqual([
      "adapter_config.json",
      "adapter_model.safetensors",
      "kernel_variants.json",
      "manifest.json",
      "optimizer.safetensors",
      "qdora_config.yaml",
      "trainer_state.json",
    ]);
    expectSameBytes(
      straight,
      join(straight, "checkpoint-20"),
      "adapter_config.json",
      "adapter_model.safetensors",
    );
    // Six steps in an epoch, the last of one micro-batch: step 10 lies inside the second, and two ends of epochs after it.
    expect(numbers(straight).flatMap((line) => line["epoch"] ?? [])).toEqual(
      Array.from({ length: 20 }, (_, i) => Math.floor((i + 1) / 6) + ((i + 1) % 6) * (3 / 16)),
    );
  });
});

describe("--resume", () => {
  it("gives after ten steps and ten more the bytes of twenty, in a copied folder with a torn line", async () => {
    const out = copyUpTo(straight, join(folder, "ten"), "checkpoint-10");
    appendFileSync(join(out, "metrics.jsonl"), '{"step":21,"lo');
    cpSync(join(out, "checkpoint-10"), join(out, "checkpoint-12.0123456789ab.tmp"), { recursive: true });
    const run = await succeed(resume(out, "--max-steps", "20", "--save-steps", "20"));
    expect(run.stderr).toContain(`resume: going on from ${join(out, "checkpoint-10")}\n`);
    expect(run.stderr).not.toContain("warning");
    expectSameBytes(straight, out, "adapter_model.safetensors", "adapter_config.json");
    const files = [
      "adapter_model.safetensors",
      "optimizer.safetensors",
      "kernel_variants.json",
      "trainer_state.json",
    ];
    expectSameBytes(join(straight, "checkpoint-20"), join(out, "checkpoint-20"), ...files);
    expect(numbers(out)).toEqual(numbers(straight));
    expect(readdirSync(out).filter((name) => name.includes("tmp") || name.includes("lock"))).toEqual([]);
  });

  it("falls back to an older checkpoint when the newest is damaged, and says why", async () => {
    const out = copyUpTo(
      straight,
      join(folder, "damaged"),
      "checkpoint-10",
      "checkpoint-15",
      "checkpoint-20",
    );
    appendFileSync(join(out, "checkpoint-20", "optimizer.safetensors"), "x");
    rmSync(join(out, "checkpoint-15", "manifest.json"));
    const run = await succeed(
      resume(out, "--max-steps", "11", "--save-total-limit", "1", "--learning-rate", "1e-3"),
    );
    expect(run.stderr).toMatch(
      /resume: checkpoint-20 cannot be used: .*optimizer\.safetensors: has \d+ bytes/,
    );
    expect(run.stderr).toMatch(/resume: checkpoint-15 cannot be used: .*manifest\.json: does not exist/);
    expect(run.stderr).toContain(`resume: going on from ${join(out, "checkpoint-10")}\n`);
    expect(run.stderr).toContain("warning: learning_rate is 0.001 now, was 0.005 until checkpoint-10");
    expect(checkpoints(out)).toEqual(["checkpoint-11", "checkpoint-15", "checkpoint-20"]);
    expect(numbers(out).map((line) => line["step"])).toEqual(Array.from({ length: 11 }, (_, i) => i + 1));
  });

  it("starts from the beginning where there is no checkpoint, and says so", async () => {
    const out = join(folder, "none");
    const run = await succeed(resume(out, "--max-steps", "1"));
    expect(run.stderr).toContain(`resume: no checkpoint in ${out}, starting from the beginning\n`);
    expect(checkpoints(out)).toEqual(["checkpoint-1"]);
  });

  it("ends at once when the run has come to its end already", async () => {
    const out = copyUpTo(straight, join(folder, "ended"), "checkpoint-20");
    const run = await succeed(resume(out));
    expect(run.stderr).not.toContain("step 20/20");
    expectSameBytes(straight, out, "adapter_model.safetensors");
    expect(numbers(out)).toEqual(numbers(straight));
  });

  it("refuses another model, other data, rank and targets, too few steps, and only damaged checkpoints", async () => {
    const out = copyUpTo(straight, join(folder, "refused"), "checkpoint-10");
    const before = readFileSync(join(out, "metrics.jsonl"), "utf8");
    const data = join(folder, "other.jsonl");
    writeFileSync(data, readFileSync(join(folder, "train.jsonl"), "utf8").replace("[1,", "[2,"));
    const model = join(folder, "model");
    cpSync(LLAMA, model, { recursive: true });
    const weights = readFileSync(join(model, "model.safetensors"));
    // The lowest bit of one value.
    weights[weights.length - 4] = (weights.at(-4) ?? 0) ^ 1;
    writeFileSync(join(model, "model.safetensors"), weights);
    const cases: readonly (readonly [readonly string[], 1 | 2, RegExp])[] = [
      [["--rank", "8"], 2, /resume: rank is 8, checkpoint-10 was trained with 4/],
      [["--target-modules", "q_proj"], 2, /resume: target_modules is /],
      [["--max-steps", "9"], 2, /max_steps: the run would end after step 9/],
      [["--data", data], 1, /resume: .*other\.jsonl has other bytes/],
      [["--model", model], 1, /resume: .*model has other weights/],
    ];
    for (const [change, exit, says] of cases) expectRefused(await qdora(resume(out, ...change)), exit, says);
    writeFileSync(join(out, "checkpoint-10", "manifest.json"), "{}");
    expectRefused(await qdora(resume(out)), 1, /resume: none of the 1 checkpoints in .* is whole/);
    expect(readFileSync(join(out, "metrics.jsonl"), "utf8")).toBe(before);
    expect(readdirSync(out).toSorted()).toEqual(["checkpoint-10", "metrics.jsonl", "qdora_config.yaml"]);
  });
});

describe("a run without --resume", () => {
  it("does not touch the checkpoints of one that did not finish", async () => {
    const out = copyUpTo(straight, join(folder, "unfinished"), "checkpoint-10");
    expectRefused(
      await qdora(finetune(out)),
      2,
      /output_dir: .* holds checkpoint-10 of a run that did not finish\nhint: --resume goes on from it/,
    );
    expect(checkpoints(out)).toEqual(["checkpoint-10"]);
  });
});
