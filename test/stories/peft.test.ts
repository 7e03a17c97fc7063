/** Opt-in: QDORA_PEFT_PYTHON names a Python that has torch, transformers and peft. An adapter of ours in real PEFT. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Generator } from "../../src/generate/generator.js";
import { train } from "../../src/train/trainer.js";
import { writeOutput } from "../../src/train/output.js";
import { FIXTURES } from "../fixture_files.js";
import { goldenConfig } from "../train/golden_run.js";

const python = process.env["QDORA_PEFT_PYTHON"];

const PROMPTS = [[5], [1, 2, 3, 4], Array.from({ length: 40 }, (_, i) => (i * 37) % 300)];

describe.skipIf(python === undefined)("PEFT loads what qdora writes", () => {
  for (const name of ["dora_llama", "qdora_qwen2"]) {
    it(`${name}: the same logits to 1e-4`, async () => {
      const out = mkdtempSync(join(tmpdir(), "qdora-peft-"));
      const golden = await goldenConfig(join(FIXTURES, "training", name));
      const config = { ...golden, quant: "none" as const, output_dir: out, max_steps: 4, warmup_steps: 0 };
      const { run, adapter } = await train(config, () => undefined);
      await writeOutput(run, adapter, undefined);
      const script = join(import.meta.dirname, "peft_logits.py");
      const text = execFileSync(python ?? "", [script, config.model, out, JSON.stringify(PROMPTS)], {
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      });
      const want = JSON.parse(text) as number[][];
      const generator = await Generator.open({
        model: config.model,
        adapter: out,
        quant: "none",
        doubleQuant: false,
        context: 64,
      });
      for (const [i, ids] of PROMPTS.entries()) {
        generator.reset();
        const got = await generator.feed(ids);
        expect(Math.max(...got.map((v, token) => Math.abs(v - want[i]![token]!)))).toBeLessThan(1e-4);
      }
      await generator.close();
      rmSync(out, { recursive: true });
    });
  }
});
