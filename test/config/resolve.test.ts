import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { resolveFinetuneConfig, toYaml, type FinetuneConfig } from "../../src/config/resolve.js";
import { KEY_NAMES } from "../../src/config/schema.js";
import { UNSUPPORTED } from "../../src/config/unsupported.js";
import { parseBytes } from "../../src/config/values.js";
import { QdoraError } from "../../src/formats/error.js";

const folder = mkdtempSync(join(tmpdir(), "qdora-config-"));
let files = 0;
function yaml(text: string): string {
  const path = join(folder, `run${files++}.yaml`);
  writeFileSync(path, text);
  return path;
}
const REQUIRED = { model: "m", data: "d.jsonl", output_dir: join(folder, "out") };
const resolve = (flags: Record<string, unknown> = {}, text?: string): Promise<FinetuneConfig> =>
  resolveFinetuneConfig({ ...REQUIRED, ...flags }, text === undefined ? undefined : yaml(text));

async function refusal(flags: Record<string, unknown>, text?: string): Promise<QdoraError> {
  const error: unknown = await resolve(flags, text).catch((e: unknown) => e);
  if (!(error instanceof QdoraError)) throw new Error(`not refused: ${JSON.stringify(flags)} ${text}`);
  expect(error.exitCode).toBe(2);
  expect(error.hint).not.toBe("");
  return error;
}

describe("resolveFinetuneConfig", () => {
  it("has the defaults of the contract", async () => {
    expect(await resolve()).toEqual({
      ...REQUIRED,
      data_weights: undefined,
      columns: {},
      revision: "main",
      init_adapter: undefined,
      quant: "nf4",
      double_quant: true,
      quant_head: "none",
      compute_dtype: "auto",
      use_dora: true,
      use_rslora: false,
      rank: 16,
      alpha: 32,
      dropout: 0,
      target_modules: "all-linear",
      exclude_modules: undefined,
      rank_pattern: {},
      alpha_pattern: {},
      max_seq_length: 1024,
      packing: false,
      batch_size: 1,
      gradient_accumulation_steps: 16,
      shuffle: true,
      train_on_prompt: false,
      val_size: undefined,
      epochs: 1,
      max_steps: undefined,
      learning_rate: 1e-4,
      lr_scheduler: "cosine",
      warmup_steps: undefined,
      warmup_ratio: 0.03,
      weight_decay: 0,
      max_grad_norm: 1,
      optimizer: "adamw",
      seed: 0,
      eval_steps: undefined,
      logging_steps: 1,
      save_steps: undefined,
      save_total_limit: undefined,
      resume: false,
      gradient_checkpointing: "full",
      checkpoint_dtype: "auto",
      checkpoint_place: "auto",
      stream_layers: "auto",
      layer_cache: "ram",
      token_chunk: undefined,
      memory_limit: undefined,
      device: undefined,
      tune: "quick",
      dry_run: false,
    });
  });

  it("lets flags win over YAML and YAML over defaults; null means default", async () => {
    const config = await resolve(
      { rank: "8", learningRate: "2e-4" },
      "rank: 4\nlearning_rate: 1e-3\nepochs: 2.5\nseed: null\nalpha:\n",
    );
    expect(config).toMatchObject({ rank: 8, learning_rate: 2e-4, epochs: 2.5, seed: 0, alpha: 16 });
    expect((await resolve({}, "rank: 4\nalpha: 5\n")).alpha).toBe(5);
    expect(
      (await resolve({ useDora: false, packing: true, shuffle: "false" }, "use_dora: true")).shuffle,
    ).toBe(false);
    expect(await resolve({ useDora: false }, "use_dora: true")).toMatchObject({ use_dora: false });
  });

  it("reads lists and maps from flags and from YAML", async () => {
    const byFlags = await resolve({
      targetModules: "q_proj, v_proj",
      rankPattern: "q_proj=8,k_proj=4",
      alphaPattern: "a.b=0.5",
    });
    const byYaml = await resolve(
      {},
      "target_modules: [q_proj, v_proj]\nrank_pattern: {q_proj: 8, k_proj: 4}\nalpha_pattern: {a.b: 0.5}\n",
    );
    expect(byFlags).toEqual(byYaml);
    expect(byFlags).toMatchObject({
      target_modules: ["q_proj", "v_proj"],
      rank_pattern: { q_proj: 8, k_proj: 4 },
      alpha_pattern: { "a.b": 0.5 },
    });
    expect((await resolve({ targetModules: "all-linear" })).target_modules).toBe("all-linear");
    expect((await resolve({ targetModules: String.raw`.*\.(q|v)_proj` })).target_modules).toBe(
      String.raw`.*\.(q|v)_proj`,
    );
    expect((await resolve({ excludeModules: "lm_head" })).exclude_modules).toEqual(["lm_head"]);
  });

  it("reads sizes of memory", async () => {
    expect((await resolve({ memoryLimit: "5.5GiB" })).memory_limit).toBe(5.5 * 2 ** 30);
    expect((await resolve({}, "memory_limit: 6GB")).memory_limit).toBe(6e9);
    expect((await resolve({}, "memory_limit: 1234567")).memory_limit).toBe(1234567);
    await expect(resolve({}, "memory_limit: 6")).rejects.toThrow(/memory_limit: .*6/);
    expect((await resolve({ lossSpikeRollback: "6", saveSteps: "10" })).loss_spike_rollback).toBe(6);
    expect((await resolve({}, "loss_spike_rollback: off")).loss_spike_rollback).toBeUndefined();
    expect(["800MB", "800 mb", "1.5kib", "12", "7B"].map(parseBytes)).toEqual([8e8, 8e8, 1536, 12, 7]);
    expect(["", "GB", "-1GB", "0", "1XB", "1e3", "9999999TB"].map(parseBytes)).toEqual(
      Array.from({ length: 7 }, () => undefined),
    );
  });

  it("writes YAML that resolves to itself", async () => {
    const given = {
      rank: 4,
      targetModules: "q_proj,v_proj",
      rankPattern: "q_proj=2",
      memoryLimit: "1GiB",
      valSize: "0.25",
      maxSteps: 3,
      device: "software",
      useDora: false,
    };
    for (const config of [await resolve(), await resolve(given)]) {
      const text = toYaml(config);
      expect(Object.keys(config).toSorted()).toEqual([...KEY_NAMES].toSorted());
      for (const name of KEY_NAMES) expect(text).toMatch(new RegExp(`^${name}:`, "m"));
      expect(await resolveFinetuneConfig({}, yaml(text))).toEqual(config);
    }
  });

  it("suggests the key that was meant", async () => {
    expect(await refusal({}, "learning_rat: 1")).toMatchObject({
      message: expect.stringMatching(/run\d+\.yaml: learning_rat: is not a known key/),
      hint: "did you mean learning_rate?",
    });
    expect(await refusal({}, "lerning-rate: 1")).toMatchObject({ hint: "did you mean learning_rate?" });
    expect(await refusal({}, "max_seq_len: 1")).toMatchObject({ hint: "did you mean max_seq_length?" });
    expect(await refusal({ batchSise: 1 })).toMatchObject({
      message: "--batch-sise: is not a known key",
      hint: "did you mean --batch-size?",
    });
    expect((await refusal({}, "frobnicate: 1")).hint).toContain("--help");
    expect((await refusal({}, "constructor: 1")).message).toContain("constructor: is not a known key");
    expect((await refusal({}, "__proto__: {rank: 1}")).message).toContain("__proto__: is not a known key");
  });

  it.each([
    ["rank", 0, "a whole number of at least 1"],
    ["rank", 1.5, "a whole number of at least 1"],
    ["rank", "16", "a whole number of at least 1"],
    ["alpha", 0, "a number above 0"],
    ["dropout", 1, "a number from 0 to below 1"],
    ["learning_rate", 0, "a number above 0"],
    ["learning_rate", -1, "a number above 0"],
    ["learning_rate", ".inf", "a number above 0"],
    ["batch_size", 0, "a whole number of at least 1"],
    ["gradient_accumulation_steps", 0, "a whole number of at least 1"],
    ["max_steps", 0, "a whole number of at least 1"],
    ["epochs", 0, "a number above 0"],
    ["max_seq_length", 1, "a whole number of at least 2"],
    ["quant", "int8", "one of nf4, none"],
    ["lr_scheduler", "poly", "one of linear, cosine, constant"],
    ["use_dora", "yes", "true or false"],
    ["target_modules", [], "a list of module names"],
    ["target_modules", [1], "a list of module names"],
    ["rank_pattern", { q: 0 }, "module names with whole numbers of at least 1"],
    ["rank_pattern", "q=1", "module names with whole numbers"],
    ["val_size", 1.5, "a fraction below 1 or a whole number of rows"],
    ["val_size", 0, "a fraction below 1"],
    ["seed", -1, "a whole number from 0"],
    ["memory_limit", "lots", "auto, or a size such as 6GB"],
    ["model", 5, "a text"],
    ["warmup_ratio", 1, "a number from 0 to below 1"],
  ])("refuses %s: %j in YAML, naming file, key and what is expected", async (key, value, expected) => {
    const { model: _, ...others } = REQUIRED;
    const path = yaml(`${key}: ${value === ".inf" ? value : JSON.stringify(value)}\n`);
    const error: unknown = await resolveFinetuneConfig(others, path).catch((e: unknown) => e);
    expect(error).toMatchObject({
      exitCode: 2,
      area: `${path}: ${key}`,
      message: expect.stringContaining(`expected ${expected}`),
    });
  });

  it("refuses the same in flags", async () => {
    expect((await refusal({ rank: "0" })).message).toBe(
      '--rank: got "0", expected a whole number of at least 1',
    );
    expect((await refusal({ learningRate: "fast" })).message).toBe(
      '--learning-rate: got "fast", expected a number above 0',
    );
    expect((await refusal({ rankPattern: "q_proj" })).message).toContain('--rank-pattern: got "q_proj"');
    expect((await refusal({ packing: "maybe" })).message).toContain("expected true or false");
    expect((await refusal({ rank: "" })).message).toContain("--rank");
  });

  it("refuses missing keys and an output_dir that is a file", async () => {
    await expect(resolveFinetuneConfig({ data: "d" })).rejects.toMatchObject({
      message: "config: model, output_dir are missing",
      exitCode: 2,
    });
    expect((await refusal({ output_dir: yaml("") })).message).toContain("is a file");
    mkdirSync(join(folder, "there"), { recursive: true });
    await resolve({ output_dir: join(folder, "there") });
  });

  it("refuses what this version cannot do, all of the list", async () => {
    const asked: Record<string, unknown> = {
      dropout: 0.1,
    };
    for (const { key } of UNSUPPORTED) {
      expect(Object.keys(asked)).toContain(key);
      expect((await refusal({ [key]: asked[key] })).message).toMatch(
        new RegExp(`^${key}: .* is not supported in this version$`),
      );
    }
  });
});

describe("YAML files", () => {
  it.each([
    ["rank: 4\nrank: 5\n", /line 2: Map keys must be unique/],
    ["- rank\n", /is not a mapping/],
    ["just text\n", /is not a mapping/],
    ["rank: [1\n", /line \d+: /],
    [
      "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c]\n",
      /uses aliases/,
    ],
    ["rank: !!js/function 'f'\n", /line 1: Unresolved tag/],
    ["rank: 4\n---\nrank: 5\n", /multiple documents/],
    [`# ${"x".repeat(1024 * 1024)}\n`, /is too large/],
  ])("refuses %#", async (text, message) => {
    expect((await refusal({}, text)).message).toMatch(message);
  });

  it("takes an empty file, and names a missing one", async () => {
    expect((await resolve({}, "# nothing\n")).rank).toBe(16);
    await expect(resolveFinetuneConfig(REQUIRED, join(folder, "none.yaml"))).rejects.toThrow(
      "none.yaml: does not exist",
    );
    await expect(resolveFinetuneConfig(REQUIRED, folder)).rejects.toThrow("is not a file");
  });
});
