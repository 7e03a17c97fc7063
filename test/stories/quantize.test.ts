/** `qdora quantize`, and what the other commands make of its folders. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { expectRefused, LLAMA, qdora, storyFolder, TINY, writeRows } from "./qdora.js";

const folder = storyFolder();

describe("qdora quantize", () => {
  it("writes a folder that inspect, generate and finetune take for the model itself", async () => {
    const out = join(folder, "tiny-nf4");
    const made = await qdora(["quantize", TINY, out, "--json"]);
    expect(made.status, made.stderr).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({ path: out, files: ["model.safetensors"] });
    expect(readdirSync(folder)).toEqual(["tiny-nf4"]);
    for (const name of ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
      expect(readFileSync(join(out, name))).toEqual(readFileSync(join(TINY, name)));

    const inspected = await qdora(["inspect", out]);
    expect(inspected.stderr).toContain("ready-made NF4");
    expect(inspected.status).toBe(0);

    const ask = ["--prompt", "The fog over London", "--max-new-tokens", "12", "--json"];
    const [from, original] = [
      await qdora(["generate", "--model", out, ...ask]),
      await qdora(["generate", "--model", TINY, ...ask]),
    ];
    expect(from.status, from.stderr).toBe(0);
    expect(from.stdout).toBe(original.stdout);

    const metrics: string[] = [];
    for (const [i, model] of [out, TINY].entries()) {
      const run = join(folder, `run-${i}`);
      const data = writeRows(join(folder, "rows.jsonl"), [{ text: "Fog, fog and rain." }]);
      const flags = ["--max-steps", "2", "--gradient-accumulation-steps", "1", "--tune", "off"];
      const files = ["--model", model, "--data", data, "--output-dir", run];
      const trained = await qdora(["finetune", ...files, ...flags]);
      expect(trained.status, trained.stderr).toBe(0);
      metrics.push(
        readFileSync(join(run, "metrics.jsonl"), "utf8").replaceAll(/"tokens_per_second":[^,}]*/g, ""),
      );
    }
    expect(metrics[0]).toBe(metrics[1]);
  });

  it("keeps the block maxima in f32 on request, and splits files", async () => {
    const out = join(folder, "llama-nf4");
    const made = await qdora(["quantize", LLAMA, out, "--no-double-quant", "--max-shard-size", "100kB"]);
    expect(made.status, made.stderr).toBe(0);
    expect(made.stdout).toBe("");
    expect(existsSync(join(out, "model.safetensors.index.json"))).toBe(true);
    expect(readFileSync(join(out, "config.json"), "utf8")).toContain('"bnb_4bit_use_double_quant": false');
    expect((await qdora(["inspect", out])).status).toBe(0);
  });

  it("refuses what it cannot do", async () => {
    const out = join(folder, "never");
    expectRefused(await qdora(["quantize", join(folder, "nothing"), out]), 1, /nothing.*does not exist/);
    expectRefused(await qdora(["quantize", LLAMA, LLAMA]), 2, /not empty/);
    expectRefused(await qdora(["quantize", LLAMA, out, "--max-shard-size", "big"]), 2, /expected a size/);
    const ready = join("test/fixtures/nf4/bnb_checkpoint");
    expectRefused(await qdora(["quantize", ready, out]), 1, /quantised already/);
    expect(existsSync(out)).toBe(false);
  });
});
