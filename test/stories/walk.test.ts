/**
 * README's walk "From nothing to a published adapter", its commands one after the other as they stand there, in a folder with nothing
 * but the repository's models. The Hub is a mock; the repository of that name holds the tiny model.
 */
import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { startMockHub, type MockFile } from "../hub/mock_hub.js";
import { WRITE_TOKEN } from "../hub/mock_writes.js";
import { startPushHub } from "../hub/push_story.js";
import { hubEnvironment, newCache } from "../hub/pull_story.js";
import { storyFolder, TINY, type Finished } from "./qdora.js";
import { readmeBlock } from "./readme.js";

const block = readmeBlock("From nothing to a published adapter", "sh");
const [, MODEL = ""] = /^MODEL=(\S+)$/m.exec(block) ?? [];
const lines = block.split("\n").filter((line) => line !== "");
/** What the comment of a line says where a person has to do something. */
const STOPPED = "# press Ctrl-C";

/** What each command is for, in order; a command that README gains or loses shows here. */
const STEPS = [
  "pull",
  "data",
  "plan",
  "finetune",
  "finetune --resume",
  "eval",
  "generate --adapter",
  "merge",
  "generate",
  "export",
  "push",
];

function stepOf(line: string): readonly string[] {
  const [, name] = /^qdora (\w+)/.exec(line) ?? [];
  if (name === undefined) return [];
  const marks = name === "finetune" ? ["--resume"] : name === "generate" ? ["--adapter"] : [];
  return [[name, ...marks.filter((mark) => line.includes(` ${mark}`))].join(" ")];
}

describe("README's walk", async () => {
  const folder = storyFolder();
  const bin = join(folder, "bin");
  const work = join(folder, "work");
  const files = Object.fromEntries(
    readdirSync(TINY, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }): [string, MockFile] => [
        name,
        { bytes: readFileSync(join(TINY, name)), large: name.endsWith(".safetensors") },
      ]),
  );
  const hub = await startMockHub({ id: MODEL, files });
  // The one that takes pushes has no models.
  const { writes, url: pushUrl } = await startPushHub();
  const env = {
    ...process.env,
    ...hubEnvironment(newCache().home, hub.url),
    MODEL,
  };
  const ran = new Map<string, Finished>();
  const done = (step: string): Finished => {
    const run = ran.get(step);
    if (!run) throw new Error(`README's walk has no ${step}`);
    return run;
  };

  /** One line in a shell; a line that says so is interrupted in its third step, as from a terminal. */
  function shell(line: string): Promise<Finished> {
    return new Promise((finished, failed) => {
      const path = `${bin}${delimiter}${process.env["PATH"] ?? ""}`;
      // The shell makes way for a command of ours, so that the signal reaches it.
      const command = line.replace(/^qdora /, "exec qdora ");
      const more = line.startsWith("qdora push") ? { HF_ENDPOINT: pushUrl, HF_TOKEN: WRITE_TOKEN } : {};
      const child = spawn("sh", ["-c", command], { cwd: work, env: { ...env, ...more, PATH: path } });
      let [stdout, stderr, isStopped] = ["", "", false];
      child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        stderr += text;
        if (isStopped || !line.includes(STOPPED) || !stderr.includes("step 3/")) return;
        isStopped = true;
        child.kill("SIGINT");
      });
      child.on("error", failed);
      child.on("close", (status) => finished({ status, stdout, stderr }));
    });
  }

  beforeAll(async () => {
    mkdirSync(bin);
    mkdirSync(work);
    symlinkSync(resolve("models"), join(work, "models"), "dir");
    const command = `#!/bin/sh\nexec '${process.execPath}' '${resolve("dist/cli.js")}' "$@"\n`;
    writeFileSync(join(bin, "qdora"), command);
    chmodSync(join(bin, "qdora"), 0o755);
    for (const line of lines) {
      const run = await shell(line);
      for (const step of stepOf(line)) ran.set(step, run);
      // What comes after a command that failed would only hide it.
      const wanted = line.includes(STOPPED) ? 130 : 0;
      if (run.status !== wanted) throw new Error(`${line}\nended with ${run.status}:\n${run.stderr}`);
    }
  });

  it("has these steps", () => {
    expect(lines.flatMap(stepOf)).toEqual(STEPS);
  });
  it("pulls the model once, into the cache", () => {
    expect(done("pull").stderr).toMatch(/^folder: .*snapshots/m);
    const weights = hub.seen.filter(({ host, method }) => host === "storage" && method === "GET");
    expect(weights).toHaveLength(1);
  });
  it("shows what is scored, and a plan that fits", () => {
    expect(done("data").stderr).toMatch(/^total: \d+ rows, [\d,]+ tokens, [\d,]+ scored$/m);
    expect(done("data").stderr).toContain("[[");
    expect(done("plan").stderr).toMatch(/^fits 6\.00 GB/m);
  });
  it("is stopped with a checkpoint and goes on from it to the end", () => {
    const [, saved = ""] = /saved in (\S+)/.exec(done("finetune").stderr) ?? [];
    expect(saved).toMatch(/^out\/checkpoint-\d+$/);
    const { stderr } = done("finetune --resume");
    expect(stderr).toContain(saved);
    expect(stderr).toMatch(/held-out loss/);
    const adapter = JSON.parse(readFileSync(join(work, "out/adapter_config.json"), "utf8")) as unknown;
    expect(adapter).toMatchObject({ base_model_name_or_path: MODEL, use_dora: true });
    const steps = readFileSync(join(work, "out/metrics.jsonl"), "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Readonly<Record<string, number>>)
      .flatMap((line) => (line["loss"] === undefined ? [] : line["step"]));
    expect(steps).toEqual(Array.from({ length: steps.length }, (_, i) => i + 1));
  });
  it("shows that it helped: the held-out loss fell", () => {
    expect(done("eval").stderr).toMatch(/nll per token .* {2}-\d+\.\d{4} ± \d.* {2}95 %: -\d/);
  });
  it("merges what was trained: the merged model says what base and adapter say", () => {
    expect(done("merge").stderr).toMatch(/^base: .*NF4.*\(the adapter was trained on them\)$/m);
    expect(done("merge").stderr).toMatch(/^verify: logits differ by/m);
    expect(done("generate --adapter").stdout).toMatch(/\w{3}/);
    expect(done("generate").stdout).toBe(done("generate --adapter").stdout);
  });
  it("publishes the adapter", () => {
    expect([...writes.branch("YOUR-NAME/tiny-weather").files.keys()]).toContain("adapter_model.safetensors");
  });
  it("makes a GGUF file", () => {
    expect(existsSync(join(work, "merged.gguf"))).toBe(true);
    expect(readFileSync(join(work, "merged.gguf")).subarray(0, 4).toString()).toBe("GGUF");
  });
});
