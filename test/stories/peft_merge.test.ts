/** Opt-in: QDORA_PEFT_PYTHON names a Python that has torch, transformers and peft. Merged folders in transformers, against merge_and_unload. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mergeAdapter } from "../../src/export/merged_folder.js";
import { FIXTURES } from "../fixture_files.js";
import { temporaryFolder } from "../formats/made_files.js";

const python = process.env["QDORA_PEFT_PYTHON"];

describe.skipIf(python === undefined)(
  "transformers loads merged folders, which equal PEFT's merge_and_unload",
  () => {
    for (const [name, maxShardBytes] of [
      ["dora_llama", 5e9],
      ["qlora_llama", 100_000],
      ["qdora_rslora_llama", 5e9],
      ["qdora_qwen2", 100_000],
    ] as const) {
      it(name, async () => {
        const model = join(FIXTURES, "models", name.endsWith("qwen2") ? "qwen2" : "llama");
        const adapter = join(FIXTURES, "training", name, "expected", "adapter");
        const outputDir = join(temporaryFolder(), "merged");
        await mergeAdapter({
          model,
          adapter,
          outputDir,
          base: { kind: "stored" },
          dtype: "F32",
          maxShardBytes,
        });
        const script = join(import.meta.dirname, "peft_merge.py");
        const output = execFileSync(python ?? "", [script, model, adapter, outputDir], {
          encoding: "utf8",
          stdio: ["ignore", "pipe", "ignore"],
        });
        const got = JSON.parse(output) as { weights: number; logits: number; tensors: number };
        expect(got.tensors).toBeGreaterThan(20);
        // PEFT sums in f32; weights stay below 2.
        expect(got.weights).toBeLessThan(1e-6);
        expect(got.logits).toBeLessThan(1e-4);
      });
    }
  },
);
