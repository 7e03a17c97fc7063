/** SmolLM2-135M with the golden DoRA adapter: merged, compared with base and adapter, exported; by the command line. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FIXTURES } from "../fixture_files.js";
import { continueByLlamaCpp, LLAMA_CPP } from "../stories/llama_cpp.js";

const model = process.env["QDORA_SMOLLM2"] ?? "";
const adapter = join(FIXTURES, "smollm2", "training", "expected", "adapter");
const cli = join(import.meta.dirname, "../../dist/cli.js");
const folder = mkdtempSync(join(tmpdir(), "qdora-merge-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const merged = join(folder, "merged");
const BASE = ["--model", model, "--adapter", adapter, "--base", "nf4"];

/** Runs the command line to its end. @returns what it says on stdout, as JSON */
function json(args: readonly string[]): unknown {
  const run = spawnSync(process.execPath, [cli, ...args, "--json"], { encoding: "utf8" });
  expect(run.status, run.stderr).toBe(0);
  return JSON.parse(run.stdout);
}

describe("SmolLM2-135M merged", () => {
  it("in full precision has the logits of base and adapter to 1e-3", () => {
    const { verify } = json(["merge", ...BASE, "--output-dir", merged, "--dtype", "f32", "--verify"]) as {
      verify: Record<string, number>;
    };
    console.log(verify);
    expect(verify["positions"]).toBeGreaterThan(20);
    expect(verify["largest_logit"]).toBeGreaterThan(10);
    expect(verify["largest_difference"]).toBeLessThan(1e-3);
    expect(verify["same_choice"]).toBe(verify["positions"]);
  });

  it("needs little memory: its largest tensor, not the model", () => {
    const script = `import { mergeAdapter } from ${JSON.stringify(join(import.meta.dirname, "../../dist/export/merged_folder.js"))};
      await mergeAdapter({ model: process.argv[1], adapter: process.argv[2], outputDir: process.argv[3],
        base: { kind: "nf4", doubleQuant: true }, dtype: "F32", maxShardBytes: 5e9 });
      console.log(process.resourceUsage().maxRSS * 1024);`;
    const args = ["--input-type=module", "-e", script, model, adapter, join(folder, "small")];
    const peak = Number(execFileSync(process.execPath, args, { encoding: "utf8" }));
    console.log(`merge: process peak ${(peak / 1e6).toFixed(0)} MB`);
    // The model has 538 MB in f32, its embedding 113 MB; node itself has 60.
    expect(peak).toBeLessThan(300e6);
  });

  it.skipIf(LLAMA_CPP === undefined)("llama.cpp goes on with the same greedy tokens", () => {
    const file = join(folder, "merged.gguf");
    json(["export", "--gguf", "f16", "--model", merged, file]);
    const prompt = "The three most important rivers of Europe are";
    const ask = ["generate", "--prompt", prompt, "--max-new-tokens", "24"];
    const want = json([...ask, "--model", merged, "--quant", "none"]) as Record<string, readonly number[]>;
    const both = json([...ask, "--model", model, "--adapter", adapter]) as Record<string, readonly number[]>;
    expect(both["ids"]).toEqual(want["ids"]);
    const [got] = continueByLlamaCpp(file, 24, [prompt]);
    expect(got).toEqual({ prompt: want["prompt_ids"], ids: want["ids"] });
  });
});
