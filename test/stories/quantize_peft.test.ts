/** Opt-in: QDORA_PEFT_PYTHON names a Python that has torch, transformers and bitsandbytes. They load what `quantize` writes. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Generator } from "../../src/generate/generator.js";
import { FIXTURES } from "../fixture_files.js";
import { qdora, storyFolder } from "./qdora.js";

const python = process.env["QDORA_PEFT_PYTHON"];
const folder = storyFolder();

const PROMPTS = [[5], [1, 2, 3, 4], Array.from({ length: 40 }, (_, i) => (i * 37) % 300)];

describe.skipIf(python === undefined)("transformers loads what qdora quantised", () => {
  for (const model of ["llama", "mistral", "qwen2", "qwen3"]) {
    for (const flag of ["--double-quant", "--no-double-quant"]) {
      it(`${model} ${flag}: the same logits to 1e-4`, async () => {
        const out = join(folder, `${model}${flag}`);
        const shards = ["--max-shard-size", model === "qwen3" ? "60kB" : "5GB"];
        const made = await qdora(["quantize", join(FIXTURES, "models", model), out, flag, ...shards]);
        expect(made.status, made.stderr).toBe(0);
        const script = join(import.meta.dirname, "bnb_logits.py");
        const text = execFileSync(python ?? "", [script, out, JSON.stringify(PROMPTS)], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "pipe"],
        });
        const want = JSON.parse(text) as number[][];
        const generator = await Generator.open({ model: out, quant: "nf4", doubleQuant: true, context: 64 });
        for (const [i, ids] of PROMPTS.entries()) {
          generator.reset();
          const got = await generator.feed(ids);
          expect(Math.max(...got.map((v, token) => Math.abs(v - want[i]![token]!)))).toBeLessThan(1e-4);
        }
        await generator.close();
      });
    }
  }
});
