/** From a run to the Hub: the cards that finetune and merge write, as they go up. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { push, REPO, startPushHub, textAt } from "../hub/push_story.js";
import { qdora, storyFolder, TINY, writeRows } from "./qdora.js";

const folder = storyFolder();
const [out, merged] = [join(folder, "out"), join(folder, "merged")];
const BASE = ["--base-model", "acme/tiny"];

const frontOf = (card: string): unknown => parse(card.split("---")[1] ?? "");

describe("a run with a model of this disk", () => {
  it("pushes its adapter", async () => {
    const rows = writeRows(join(folder, "rows.jsonl"), [{ text: "Rain over the sea." }, { text: "Fog." }]);
    const train = [
      "finetune",
      "--model",
      TINY,
      "--data",
      rows,
      "--output-dir",
      out,
      "--max-steps",
      "2",
      "--save-steps",
      "1",
    ];
    const trained = await qdora([...train, "--tune", "off"]);
    expect(trained.status, trained.stderr).toBe(0);
    const hub = await startPushHub();
    const refused = await push(hub, out);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/names the base model ".*tiny", a folder of this machine/);
    const run = await push(hub, out, BASE);
    expect(run.status, run.stderr).toBe(0);
    const { files } = hub.writes.branch(REPO);
    expect([...files.keys()].toSorted()).toEqual([
      ".gitattributes",
      "README.md",
      "adapter_config.json",
      "adapter_model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    const card = textAt(hub, "README.md");
    expect(frontOf(card)).toEqual({
      base_model: "acme/tiny",
      library_name: "peft",
      pipeline_tag: "text-generation",
      tags: ["qdora", "dora"],
    });
    expect(card).toMatch(/^# tiny-dora$/m);
    expect(card).toMatch(/^A QDoRA adapter for `acme\/tiny`/m);
    expect(card).toContain('AutoModelForCausalLM.from_pretrained("acme/tiny")');
    expect(card).toContain(`PeftModel.from_pretrained(base, "${REPO}")`);
    expect(JSON.parse(textAt(hub, "adapter_config.json"))).toMatchObject({
      base_model_name_or_path: "acme/tiny",
    });
    for (const [name, { bytes }] of files) expect(bytes.includes(TINY), name).toBe(false);
  });
  it("pushes it merged", async () => {
    const made = await qdora([
      "merge",
      "--model",
      TINY,
      "--adapter",
      out,
      "--output-dir",
      merged,
      "--max-shard-size",
      "3MB",
    ]);
    expect(made.status, made.stderr).toBe(0);
    const hub = await startPushHub({ chunkSize: 1_000_000 });
    const run = await push(hub, merged, BASE);
    expect(run.status, run.stderr).toBe(0);
    const { files } = hub.writes.branch(REPO);
    expect([...files.keys()]).toEqual(
      expect.arrayContaining(["config.json", "model.safetensors.index.json", "tokenizer.json"]),
    );
    expect([...files.keys()].filter((name) => name.endsWith(".safetensors")).length).toBeGreaterThan(1);
    const card = textAt(hub, "README.md");
    expect(frontOf(card)).toEqual({
      base_model: "acme/tiny",
      library_name: "transformers",
      pipeline_tag: "text-generation",
      tags: ["qdora", "dora", "merged"],
    });
    expect(card).toContain(`AutoModelForCausalLM.from_pretrained("${REPO}")`);
    for (const [name, { bytes }] of files) expect(bytes.includes(TINY), name).toBe(false);
  });
});
