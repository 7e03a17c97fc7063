/** adapter_config.json names the modules that were trained, in a way that PEFT and qdora read back alike. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { settingsFromPeft } from "../../src/adapter/peft.js";
import { targetModules } from "../../src/adapter/targets.js";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { allModules } from "../../src/model/modules.js";
import { checkOutputFolder, CONFIG_FILE, peftConfig } from "../../src/train/output.js";
import { prepareRun } from "../../src/train/prepare.js";

const folder = mkdtempSync(join(tmpdir(), "qdora-output-"));
afterAll(() => rmSync(folder, { recursive: true }));
const data = join(folder, "train.jsonl");
writeFileSync(data, '{"input_ids": [1, 2, 3]}\n');

const prepared = async (flags: Record<string, unknown>) =>
  prepareRun(
    await resolveFinetuneConfig({
      model: "test/fixtures/models/llama",
      data,
      output_dir: join(folder, "out"),
      rank: "4",
      ...flags,
    }),
  );

describe("peftConfig", () => {
  it.each<readonly [Record<string, unknown>, unknown]>([
    [{}, ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]],
    [
      { excludeModules: "layers.0.mlp.up_proj,v_proj" },
      ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj"],
    ],
    [{ targetModules: "v_proj,layers.1.mlp.down_proj" }, ["v_proj", "layers.1.mlp.down_proj"]],
    [{ targetModules: ".*layers\\.0\\..*_proj", excludeModules: ".*mlp.*" }, ".*layers\\.0\\..*_proj"],
    [
      { rankPattern: "layers.1.self_attn.q_proj=2", alphaPattern: "v_proj=3", useRslora: "true" },
      expect.any(Array),
    ],
  ])("%j", async (flags, targets) => {
    const run = await prepared(flags);
    const config = peftConfig(run);
    expect(config.target_modules).toEqual(targets);
    const back = targetModules(allModules(run.arch), settingsFromPeft(config));
    expect(back.map(({ module, rank, scaling }) => [module.path, rank, scaling])).toEqual(
      [...run.layout.modules.values()].map(({ path, rank, scaling }) => [path, rank, scaling]),
    );
  });
});

describe("checkOutputFolder", () => {
  const check = async (out: string): Promise<void> =>
    checkOutputFolder(
      await resolveFinetuneConfig({ model: "test/fixtures/models/llama", data, output_dir: out }),
    );

  it.each(["README.md", "tokenizer.json", "adapter_model.safetensors"])(
    "refuses to write over a %s that no run made",
    async (name) => {
      const out = join(folder, `holds ${name}`);
      mkdirSync(out);
      await check(out);
      writeFileSync(join(out, "notes.txt"), "mine");
      await check(out);
      writeFileSync(join(out, name), "mine");
      await expect(check(out)).rejects.toThrow(`holds ${name}, which is of no run of qdora`);
      // A run writes its settings first: from then on these files are its own.
      writeFileSync(join(out, CONFIG_FILE), "");
      await check(out);
    },
  );
});
