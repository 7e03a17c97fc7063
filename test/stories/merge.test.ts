/** From a trained adapter to a model without one, and to a GGUF file, through the command line. */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gguf } from "@huggingface/gguf";
import { beforeAll, describe, expect, it } from "vitest";
import { readPeftAdapter, writePeftAdapter } from "../../src/formats/peft.js";
import { FIXTURES } from "../fixture_files.js";
import { broken, editConfig, putNaN } from "./broken_models.js";
import { expectRefused, LLAMA, qdora, storyFolder, TINY, writeRows } from "./qdora.js";

const folder = storyFolder();
const adapter = join(folder, "adapter");
const merged = join(folder, "merged");
const DORA = join(FIXTURES, "training/dora_llama/expected/adapter");

interface Result {
  readonly path: string;
  readonly files: readonly string[];
  readonly bytes: number;
  readonly modules: number;
  readonly dtypes: readonly string[];
  readonly verify: Readonly<Record<string, number>> | null;
}

const rows = ["rain", "sun", "wind", "snow"].map((weather) => ({
  messages: [
    { role: "user", content: `Is there ${weather}?` },
    { role: "assistant", content: `Ahoy! The ${weather} is near.` },
  ],
}));

beforeAll(async () => {
  const data = writeRows(join(folder, "rows.jsonl"), rows);
  const files = ["--model", TINY, "--data", data, "--output-dir", adapter];
  const size = ["--rank", "4", "--batch-size", "2", "--gradient-accumulation-steps", "1", "--max-steps", "6"];
  const rate = ["--learning-rate", "2e-2", "--warmup-steps", "0", "--tune", "off"];
  const run = await qdora(["finetune", ...files, ...size, ...rate]);
  expect(run.status, run.stderr).toBe(0);
});

const MERGE = ["merge", "--model", TINY, "--adapter", adapter];
const ASK = ["--chat", "--prompt", "Is there fog?", "--max-new-tokens", "16", "--json"];
const ask = (model: string, more: readonly string[]) =>
  qdora(["generate", "--model", model, ...ASK, ...more]);

describe("merge", () => {
  it("gives a folder that answers as base and adapter do, and says so", async () => {
    const run = await qdora([...MERGE, "--output-dir", merged, "--dtype", "f32", "--verify", "--json"]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toContain(
      "NF4 leaves them (double quantised), dequantised (the adapter was trained on them)",
    );
    expect(run.stderr).toMatch(/verify: logits differ by [\d.e-]+ at most .* same at (\d+) of \1 positions/);
    const result = JSON.parse(run.stdout) as Result;
    expect(result).toMatchObject({
      path: merged,
      files: ["model.safetensors"],
      modules: 42,
      dtypes: ["F32"],
    });
    expect(result.verify!["largest_difference"]).toBeLessThan(1e-3);
    expect(result.verify!["largest_logit"]).toBeGreaterThan(1);
    expect(readdirSync(merged).toSorted()).toEqual(
      [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
      ].toSorted(),
    );
    const config = JSON.parse(readFileSync(join(merged, "config.json"), "utf8")) as Record<string, unknown>;
    const original = JSON.parse(readFileSync(join(TINY, "config.json"), "utf8")) as Record<string, unknown>;
    expect(config).toEqual({ ...original, torch_dtype: "float32" });
    const card = readFileSync(join(merged, "README.md"), "utf8");
    expect(card).toContain("DoRA adapter merged into its base");
    expect(card).toContain("as NF4 leaves them");

    const both = await ask(TINY, ["--adapter", adapter]);
    const alone = await ask(merged, ["--quant", "none"]);
    const base = await ask(TINY, []);
    expect(alone.status, alone.stderr).toBe(0);
    expect(JSON.parse(alone.stdout)).toEqual(JSON.parse(both.stdout));
    expect(JSON.parse(base.stdout)).not.toEqual(JSON.parse(both.stdout));
  });

  it("cuts the weights into files that inspect finds sound, in the stored type", async () => {
    const out = join(folder, "sharded");
    const run = await qdora([...MERGE, "--output-dir", out, "--max-shard-size", "2MB", "--json"]);
    expect(run.status, run.stderr).toBe(0);
    const result = JSON.parse(run.stdout) as Result;
    expect(result.files.length).toBeGreaterThan(2);
    expect(result.dtypes).toEqual(["BF16"]);
    expect(result.verify).toBeNull();
    const inspected = await qdora(["inspect", out]);
    expect(inspected.status, inspected.stderr).toBe(0);
    expect(inspected.stderr).toContain(`in ${result.files.length} files`);
  });

  it("quantises the merged weights again, as a checkpoint of bitsandbytes", async () => {
    const out = join(folder, "nf4");
    const run = await qdora([...MERGE, "--output-dir", out, "--quant", "nf4", "--verify", "--json"]);
    expect(run.status, run.stderr).toBe(0);
    const result = JSON.parse(run.stdout) as Result;
    expect(result).toMatchObject({ files: ["model.safetensors"], modules: 42, quant: "nf4" });
    expect(result.bytes).toBeLessThan(0.5 * readFileSync(join(merged, "model.safetensors")).length);
    expect(result.verify!["largest_difference"]).toBeLessThan(0.5 * result.verify!["largest_logit"]!);
    expect(readdirSync(out).toSorted()).toEqual(readdirSync(merged).toSorted());
    expect(readFileSync(join(out, "README.md"), "utf8")).toContain("NF4, double quantised");
    const inspected = await qdora(["inspect", out]);
    expect(inspected.stderr).toContain("ready-made NF4");
    // The weights are those of `quantize` over a merged folder of the same type.
    const [dense, twice] = [join(folder, "dense"), join(folder, "twice")];
    expect(await qdora([...MERGE, "--output-dir", dense])).toMatchObject({ status: 0 });
    expect(await qdora(["quantize", dense, twice])).toMatchObject({ status: 0 });
    const weights = (path: string): Buffer => readFileSync(join(path, "model.safetensors"));
    expect(weights(out).equals(weights(twice))).toBe(true);
    expect(readdirSync(folder).filter((name) => name.includes(".tmp"))).toEqual([]);
  });

  it("--base wins over what the adapter says, and gives other weights", async () => {
    const out = join(folder, "stored");
    const run = await qdora([...MERGE, "--output-dir", out, "--dtype", "f32", "--base", "stored"]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toContain("base: the weights as stored (asked for)");
    const weights = (path: string): Buffer => readFileSync(join(path, "model.safetensors"));
    expect(weights(out).equals(weights(merged))).toBe(false);
  });

  it("without qdora_config.yaml it takes the weights as stored; a broken one is named", async () => {
    const copy = join(folder, "from elsewhere");
    mkdirSync(copy);
    for (const name of ["adapter_config.json", "adapter_model.safetensors"])
      copyFileSync(join(adapter, name), join(copy, name));
    const args = ["merge", "--model", TINY, "--adapter", copy, "--output-dir"];
    const run = await qdora([...args, join(folder, "plain")]);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toContain("as stored (qdora_config.yaml is not beside the adapter)");
    writeFileSync(join(copy, "qdora_config.yaml"), "quant: int3\n");
    expectRefused(await qdora([...args, join(folder, "x")]), 1, /qdora_config\.yaml: quant: got "int3"/);
  });

  it("refuses outputs that would overwrite something, and leaves everything as it was", async () => {
    const out = join(folder, "full");
    mkdirSync(out);
    writeFileSync(join(out, "mine"), "1");
    expectRefused(await qdora([...MERGE, "--output-dir", out]), 2, /full: is not empty/);
    expect(readdirSync(out)).toEqual(["mine"]);
    expectRefused(await qdora([...MERGE, "--output-dir", TINY]), 2, /is the model folder/);
    expectRefused(await qdora([...MERGE, "--output-dir", adapter]), 2, /is the adapter folder/);
    expectRefused(await qdora([...MERGE, "--output-dir", join(out, "mine")]), 2, /is a file/);
  });

  it("refuses adapters that do not belong or are broken, and leaves no folder", async () => {
    const out = join(folder, "never");
    const merge = (model: string, from: string) =>
      qdora(["merge", "--model", model, "--adapter", from, "--output-dir", out]);
    expectRefused(await merge(TINY, DORA), 1, /lora_[AB]\.weight has shape/);
    expectRefused(await merge(LLAMA, join(folder, "nothing")), 1, /nothing.* does not exist/);

    const tensor = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight";
    const spoilt = join(folder, "spoilt");
    cpSync(DORA, spoilt, { recursive: true });
    const weights = join(spoilt, "adapter_model.safetensors");
    writeFileSync(weights, putNaN(readFileSync(weights), tensor, 3));
    expectRefused(await merge(LLAMA, spoilt), 1, /up_proj\.lora_B\.weight holds NaN at index 3/);

    const loud = join(folder, "loud");
    mkdirSync(loud);
    const { config, tensors } = await readPeftAdapter(
      join(FIXTURES, "training/qlora_llama/expected/adapter"),
    );
    const huge = [...tensors].map(([key, t]) => [key, { ...t, data: t.data.map(() => 1e30) }] as const);
    await writePeftAdapter(loud, config, new Map(huge));
    expectRefused(await merge(LLAMA, loud), 1, /loud: merging .*weight gives Infinity/);
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  it("refuses a model whose weights hold NaN, by name, and leaves no folder", async () => {
    const model = broken(join(folder, "nan"), LLAMA, (copy) => {
      const path = join(copy, "model.safetensors");
      writeFileSync(path, putNaN(readFileSync(path), "model.layers.0.self_attn.k_proj.weight", 70));
    });
    const run = await qdora([
      "merge",
      "--model",
      model,
      "--adapter",
      DORA,
      "--output-dir",
      join(folder, "never"),
    ]);
    expectRefused(run, 1, /k_proj\.weight holds NaN at index 70/);
    expect(existsSync(join(folder, "never"))).toBe(false);
  });

  it("wrong usage", async () => {
    const out = ["--output-dir", join(folder, "never")];
    expectRefused(await qdora([...MERGE, ...out, "--base", "int8"]), 2, /base/);
    expectRefused(await qdora([...MERGE, ...out, "--max-shard-size", "none"]), 2, /max-shard-size/);
    expectRefused(await qdora([...MERGE, ...out, "--device", "software"]), 2, /--verify only/);
    expectRefused(await qdora([...MERGE, ...out, "--no-double-quant"]), 2, /--quant nf4 only/);
    expectRefused(await qdora(["merge", "--model", TINY, ...out]), 2, /--adapter/);
  });

  it("a signal stops it and nothing is left", async () => {
    const out = join(folder, "stopped");
    let sent = false;
    const run = await qdora([...MERGE, "--output-dir", out, "--verify"], {
      onText: (stderr, child) => {
        if (sent || !stderr.includes("base:")) return;
        sent = true;
        child.kill("SIGTERM");
      },
    });
    expect(run.status).toBe(143);
    expect(run.stderr).toContain("error: SIGTERM: stopped; nothing was written");
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

describe("export", () => {
  it("writes the same file from the merged folder as from base and adapter", async () => {
    const [one, two] = [join(folder, "one.gguf"), join(folder, "two.gguf")];
    const from = await qdora(["export", "--gguf", "q8_0", "--model", merged, one, "--json"]);
    expect(from.status, from.stderr).toBe(0);
    const both = await qdora(["export", "--gguf", "q8_0", "--model", TINY, "--adapter", adapter, two]);
    expect(both.status, both.stderr).toBe(0);
    expect(both.stderr).toContain("the adapter was trained on them");
    const bytes = readFileSync(one);
    expect(JSON.parse(from.stdout)).toEqual({
      path: one,
      bytes: bytes.length,
      tensors: 56,
      type: "q8_0",
      context_length: 512,
    });
    // The model's name stands in the file, and all else is equal.
    const [a, b] = await Promise.all([one, two].map((path) => gguf(path, { allowLocalFile: true })));
    expect({ ...a!.metadata, "general.name": "tiny" }).toEqual(b!.metadata);
    expect(a!.tensorInfos).toEqual(b!.tensorInfos);
    const data = (path: string, at: bigint): Buffer => readFileSync(path).subarray(Number(at));
    expect(data(one, a!.tensorDataOffset).equals(data(two, b!.tensorDataOffset))).toBe(true);
  });

  it("f16 is twice and q4_0 half of q8_0; the reader finds tokenizer and shape", async () => {
    const sizes = new Map<string, number>();
    for (const type of ["f16", "q8_0", "q4_0"]) {
      const path = join(folder, `${type}.gguf`);
      const run = await qdora(["export", "--gguf", type, "--model", TINY, path]);
      expect(run.status, run.stderr).toBe(0);
      const { metadata, tensorInfos } = await gguf(path, { allowLocalFile: true });
      expect(metadata).toMatchObject({
        "general.architecture": "llama",
        "llama.block_count": 6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.add_bos_token": false,
      });
      const texts = metadata as unknown as Readonly<Record<string, string | readonly string[]>>;
      expect(texts["tokenizer.ggml.tokens"]?.length).toBe(2048);
      expect(texts["tokenizer.chat_template"]).toContain("<|im_start|>");
      expect(tensorInfos.length).toBe(56);
      sizes.set(type, readFileSync(path).length);
    }
    const size = (type: string): number => sizes.get(type)!;
    expect(size("q8_0") / size("f16")).toBeCloseTo(34 / 64, 1);
    expect(size("q4_0")).toBeLessThan(size("q8_0") * 0.7);
  });

  it("refuses a file that exists unless told, and models without a tokenizer", async () => {
    const path = join(folder, "mine.gguf");
    writeFileSync(path, "mine");
    const args = ["export", "--gguf", "f16", "--model", TINY, path];
    expectRefused(await qdora(args), 2, /mine\.gguf: exists[^]*--overwrite/);
    expect(readFileSync(path, "utf8")).toBe("mine");
    expect(await qdora([...args, "--overwrite"])).toMatchObject({ status: 0 });
    expect(readFileSync(path).subarray(0, 4).toString()).toBe("GGUF");
    const none = join(folder, "none.gguf");
    expectRefused(
      await qdora(["export", "--gguf", "f16", "--model", LLAMA, none]),
      1,
      /tokenizer\.json: does not exist/,
    );
    expectRefused(await qdora(["export", "--gguf", "f16", "--model", TINY, folder]), 2, /is not a file/);
    expectRefused(await qdora(["export", "--gguf", "q5_k", "--model", TINY, none]), 2, /--gguf/);
    expectRefused(await qdora(["export", "--model", TINY, none]), 2, /--gguf/);
    expect(existsSync(none)).toBe(false);
  });

  it("refuses a tokenizer that does not fit, and a vocabulary it goes beyond", async () => {
    const model = broken(join(folder, "odd"), TINY, (copy) => {
      const path = join(copy, "tokenizer.json");
      const tokenizer = JSON.parse(readFileSync(path, "utf8")) as { pre_tokenizer: object };
      writeFileSync(path, JSON.stringify({ ...tokenizer, pre_tokenizer: { type: "Whitespace" } }));
    });
    const out = join(folder, "odd.gguf");
    expectRefused(
      await qdora(["export", "--gguf", "f16", "--model", model, out]),
      1,
      /tokenizer\.json: its pre_tokenizer/,
    );
    const other = broken(join(folder, "type"), TINY, editConfig({ model_type: "gemma" }));
    expectRefused(await qdora(["export", "--gguf", "f16", "--model", other, out]), 1, /model_type/);
    expect(existsSync(out)).toBe(false);
  });
});
