/** An adapter over a base model of the same shapes that is not its own is taken, and every command says so. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { readSafetensorsHeader } from "../../src/formats/safetensors.js";
import { FIXTURES } from "../fixture_files.js";
import { broken } from "./broken_models.js";
import { LLAMA, storyFolder, TINY, writeRows } from "./qdora.js";
import { succeed } from "./training.js";

const folder = storyFolder();
const adapter = join(folder, "adapter");
const other = join(folder, "other");
const WARNING = `warning: ${adapter} was trained on another base model (${TINY}) than ${other}, whose weights are others: what comes out will be wrong\n`;

/** A copy whose last norm has one other bit. */
async function withOtherNorm(copy: string, from: string): Promise<string> {
  broken(copy, from, () => undefined);
  const path = join(copy, "model.safetensors");
  const norm = (await readSafetensorsHeader(path)).tensors.get("model.norm.weight");
  const bytes = readFileSync(path);
  const at = norm?.byteOffset ?? NaN;
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(path, bytes);
  return copy;
}

const data = writeRows(join(folder, "rows.jsonl"), [{ text: "Fog, fog and rain." }]);
const finetune = (model: string, out: string): string[] =>
  ["finetune", "--model", model, "--data", data, "--output-dir", out, "--rank", "4"].concat([
    "--max-steps",
    "1",
    "--gradient-accumulation-steps",
    "1",
    "--tune",
    "off",
  ]);
beforeAll(async () => {
  await withOtherNorm(other, TINY);
  await succeed(finetune(TINY, adapter));
});

/** Every command that lays an adapter over a model. */
const commands = (model: string, out: string): readonly (readonly string[])[] => [
  ["generate", "--model", model, "--adapter", adapter, "--prompt", "Fog", "--max-new-tokens", "1"],
  ["eval", "--model", model, "--adapter", adapter, "--data", data, "--tune", "off"],
  ["merge", "--model", model, "--adapter", adapter, "--output-dir", `${out}-merged`],
  ["export", "--gguf", "q8_0", "--model", model, "--adapter", adapter, `${out}.gguf`],
  [...finetune(model, `${out}-on`), "--init-adapter", adapter],
];

describe("an adapter over another base", () => {
  it("is used with a warning by generate, eval, merge, export and finetune, from a checkpoint too", async () => {
    for (const args of commands(other, join(folder, "wrong"))) {
      const { stderr } = await succeed(args);
      expect(stderr.split(WARNING), args[0]).toHaveLength(2);
    }
    const checkpoint = join(adapter, "checkpoint-1");
    const args = ["--model", other, "--adapter", checkpoint, "--output-dir", join(folder, "from-checkpoint")];
    expect((await succeed(["merge", ...args])).stderr).toContain(WARNING.replace(adapter, checkpoint));
  });

  it("is no matter where the base is its own, or its own with NF4 weights", async () => {
    const quantised = join(folder, "nf4");
    await succeed(["quantize", TINY, quantised]);
    const [generate = []] = commands(TINY, "");
    for (const args of [generate, ...commands(quantised, join(folder, "own-nf4"))])
      expect((await succeed(args)).stderr, args[0]).not.toContain("another base");
  });

  it("is no matter that qdora knows of where PEFT made the adapter", async () => {
    const model = await withOtherNorm(join(folder, "llama"), LLAMA);
    const foreign = join(FIXTURES, "training/dora_llama/expected/adapter");
    const out = join(folder, "foreign");
    const run = await succeed(["merge", "--model", model, "--adapter", foreign, "--output-dir", out]);
    expect(run.stderr).not.toContain("warning");
    expect(existsSync(out)).toBe(true);
  });
});
