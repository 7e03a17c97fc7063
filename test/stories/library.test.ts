/** The library as a program of its own imports it: README's example, compiled against the built types, and what it refuses. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { finetune, generate, plan, QdoraError, StoppedError, type FinetuneEvent } from "../../src/index.js";
import { storyFolder, TINY } from "./qdora.js";
import { readmeBlock } from "./readme.js";

const folder = storyFolder();

/** A package that has qdora among its dependencies, and the tiny model where the example looks for it. */
function makeProgram(source: string): string {
  const program = join(folder, "program");
  mkdirSync(join(program, "node_modules"), { recursive: true });
  symlinkSync(resolve("."), join(program, "node_modules", "qdora"), "dir");
  symlinkSync(resolve("node_modules/@types"), join(program, "node_modules", "@types"), "dir");
  symlinkSync(resolve("node_modules/@webgpu"), join(program, "node_modules", "@webgpu"), "dir");
  symlinkSync(resolve("models"), join(program, "models"), "dir");
  writeFileSync(join(program, "package.json"), '{"type": "module"}');
  writeFileSync(join(program, "example.ts"), source);
  const options = { strict: true, module: "NodeNext", target: "ES2023", types: ["node"], rootDir: "." };
  writeFileSync(join(program, "tsconfig.json"), JSON.stringify({ compilerOptions: options }));
  return program;
}

describe("README's example", () => {
  const program = makeProgram(readmeBlock("Use from TypeScript", "ts"));
  it("compiles with strict types", () => {
    const tsc = resolve("node_modules/typescript/bin/tsc");
    const { stdout, status } = spawnSync(process.execPath, [tsc, "-p", program], { encoding: "utf8" });
    expect(stdout).toBe("");
    expect(status).toBe(0);
  });
  it("runs: a plan, a loss for each step, an adapter, an answer; nothing else is printed", async () => {
    const child = spawn(process.execPath, ["example.js"], { cwd: program });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text: Buffer) => (stdout += text.toString()));
    child.stderr.on("data", (text: Buffer) => (stderr += text.toString()));
    const status = await new Promise((done) => child.on("close", done));
    expect(status, stderr).toBe(0);
    // Dawn's own warnings aside, the library says nothing.
    expect(stderr.split("\n").filter((line) => line !== "" && !line.startsWith("Warning: "))).toEqual([]);
    const lines = stdout.split("\n");
    expect(lines[0]).toMatch(/^\d{7,} bytes of GPU memory, fits 6 GB$/);
    expect(lines.slice(1, 21).map((line) => Number(line.split(" ")[0]))).toEqual(
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
    expect(lines[21]).toMatch(/^out\/library: held-out loss \d\.\d+$/);
    expect(lines.slice(22).join("\n")).toMatch(/[A-Z]\w+/);
    expect(readdirSync(join(program, "out/library")).toSorted()).toEqual([
      "README.md",
      "adapter_config.json",
      "adapter_model.safetensors",
      "checkpoint-20",
      "metrics.jsonl",
      "qdora_config.yaml",
      "report.html",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
  });
});

describe("finetune()", () => {
  const run = {
    model: TINY,
    data: join(TINY, "demo"),
    output_dir: join(folder, "stopped"),
    max_steps: 4,
    batch_size: 2,
    gradient_accumulation_steps: 1,
  };
  let stopped: unknown;
  beforeAll(async () => {
    const controller = new AbortController();
    const onEvent = (event: FinetuneEvent): void => {
      if (event.type === "step" && event.step === 2) controller.abort();
    };
    stopped = await finetune(run, { onEvent, signal: controller.signal }).catch((error: unknown) => error);
  });
  it("saves and throws a StoppedError when its signal is aborted", () => {
    expect(stopped).toBeInstanceOf(StoppedError);
    expect((stopped as StoppedError).message).toMatch(/stopped after step 2; saved in .*checkpoint-2$/);
    expect(existsSync(join(run.output_dir, "adapter_model.safetensors"))).toBe(false);
  });
  it("goes on from there, and gives the figures of the whole run", async () => {
    const result = await finetune({ ...run, resume: true });
    const metrics = readFileSync(join(run.output_dir, "metrics.jsonl"), "utf8").trimEnd().split("\n");
    const lines = metrics.map((line) => JSON.parse(line) as Record<string, number>);
    expect(result).toMatchObject({
      outputDir: run.output_dir,
      steps: 4,
      loss: lines.findLast((line) => line["loss"] !== undefined)?.["loss"],
      evalLoss: lines.findLast((line) => line["eval_loss"] !== undefined)?.["eval_loss"],
    });
    expect(lines.flatMap((line) => (line["loss"] === undefined ? [] : line["step"]))).toEqual([1, 2, 3, 4]);
    expect(result.gpuPeakBytes).toBe((await plan(run)).gpu_bytes);
  });
  it("stops before it begins", async () => {
    const output = join(folder, "never");
    const stop = finetune({ ...run, output_dir: output }, { signal: AbortSignal.abort() });
    await expect(stop).rejects.toBeInstanceOf(StoppedError);
    expect(existsSync(output)).toBe(false);
  });
});

describe("what it refuses", () => {
  const base = { model: TINY, data: join(TINY, "demo"), output_dir: join(folder, "refused") };
  const refusal = async (promise: Promise<unknown>): Promise<string> => {
    const error: unknown = await promise.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(QdoraError);
    return (error as QdoraError).message;
  };
  it("names keys, values and models as the command line does", async () => {
    const misspelt = { ...base, rnak: 4 };
    expect(await refusal(finetune(misspelt))).toMatch(/rnak: is not a known key/);
    expect(await refusal(finetune({ ...base, rank: 0 }))).toMatch(/rank: got 0, expected/);
    const dry = { ...base, dry_run: true };
    expect(await refusal(finetune(dry))).toBe("dry_run: is for the command line");
    expect(await refusal(plan({ geometry: "lama-2-7b" }))).toMatch(/no geometry is called "lama-2-7b"/);
    expect(await refusal(plan({ model: TINY, gpu: "six" }))).toMatch(/got "six", expected a size/);
    expect(await refusal(plan({}))).toMatch(/model is missing/);
    const away = { model: join(folder, "none"), prompt: "x" };
    expect(await refusal(generate(away))).toMatch(/none: does not exist/);
    expect(existsSync(base.output_dir)).toBe(false);
  });
});
