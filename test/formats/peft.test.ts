import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  adapterKey,
  adapterTensorHeaders,
  readPeftAdapter,
  readPeftConfig,
  writePeftAdapter,
  type PeftConfig,
} from "../../src/formats/peft.js";
import { writeSafetensors } from "../../src/formats/safetensors.js";
import { expectRefusal, FIXTURES, put, temporaryFolder } from "./made_files.js";

type Json = Record<string, unknown>;

const TRAINING = join(FIXTURES, "training");
const adapters = readdirSync(TRAINING, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .flatMap(({ name }) => [join(name, "adapter_init"), join(name, "expected/adapter")]);
const EXAMPLE = join(TRAINING, "qdora_llama/adapter_init");
const readJson = (folder: string): Json =>
  JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8")) as Json;

/** A folder with the example's configuration, some keys changed. */
function withConfig(change: Json): string {
  const folder = temporaryFolder();
  put(folder, "adapter_config.json", JSON.stringify({ ...readJson(EXAMPLE), ...change }));
  return folder;
}

describe("PEFT's own adapters", () => {
  it("are all here", () => {
    expect(adapters.length).toBe(12);
  });

  it.each(adapters)("%s reads, and is written with the same bytes", async (name) => {
    const folder = join(TRAINING, name);
    const { config, tensors } = await readPeftAdapter(folder);
    const json = readJson(folder);
    expect(config).toMatchObject({
      r: json["r"],
      lora_alpha: json["lora_alpha"],
      use_dora: json["use_dora"],
    });
    const out = temporaryFolder();
    await writePeftAdapter(out, config, new Map([...tensors].toReversed()));
    const weights = "adapter_model.safetensors";
    expect(readFileSync(join(out, weights)).equals(readFileSync(join(folder, weights)))).toBe(true);
    const written = readFileSync(join(out, "adapter_config.json"), "utf8");
    const original = readFileSync(join(folder, "adapter_config.json"), "utf8");
    expect(written).toBe(original.trimEnd().replace('"lora_dropout": 0.0', '"lora_dropout": 0'));
  });

  it("have the keys that modules' tensors are called by", async () => {
    const path = "model.layers.0.self_attn.q_proj";
    const headers = await adapterTensorHeaders(EXAMPLE);
    expect(headers.get(adapterKey(path, "lora_A"))?.shape).toEqual([8, 64]);
    expect(headers.get(adapterKey(path, "lora_B"))?.shape).toEqual([64, 8]);
    expect(headers.get(adapterKey(path, "magnitude"))?.shape).toEqual([64]);
    expect(adapterKey("x", "magnitude")).toBe("base_model.model.x.lora_magnitude_vector");
  });
});

describe("readPeftConfig", () => {
  it("takes older files that have few keys, and keeps unknown ones", async () => {
    const folder = temporaryFolder();
    put(
      folder,
      "adapter_config.json",
      JSON.stringify({
        peft_type: "LORA",
        r: 4,
        lora_alpha: 2.5,
        target_modules: ".*_proj",
        rank_pattern: null,
        mine: 1,
      }),
    );
    expect(await readPeftConfig(folder)).toEqual({
      peft_type: "LORA",
      r: 4,
      lora_alpha: 2.5,
      target_modules: ".*_proj",
      mine: 1,
      bias: "none",
      lora_dropout: 0,
      use_dora: false,
      use_rslora: false,
      rank_pattern: {},
      alpha_pattern: {},
    });
  });

  it("does not mind which task an adapter is for, nor keys without a meaning", async () => {
    const config = await readPeftConfig(
      withConfig({
        task_type: null,
        eva_config: { rho: 2 },
        modules_to_save: [],
        megatron_core: "x",
      }),
    );
    expect(config.r).toBe(8);
  });

  it.each([true, false, null, "gaussian", "eva", "orthogonal"])(
    "takes init_lora_weights %j, which leaves the base as it is",
    async (init_lora_weights) => {
      expect(await readPeftConfig(withConfig({ init_lora_weights }))).toMatchObject({ init_lora_weights });
    },
  );

  it.each<readonly [string, unknown]>([
    ["peft_type", "IA3"],
    ["peft_type", undefined],
    ["bias", "all"],
    ["bias", "lora_only"],
    ["r", 0],
    ["r", 1.5],
    ["lora_alpha", "16"],
    ["target_modules", null],
    ["target_modules", [1]],
    ["rank_pattern", { q_proj: 0 }],
    ["alpha_pattern", { q_proj: "1" }],
    ["use_dora", "yes"],
    ["layers_to_transform", 0],
    ["layers_to_transform", [0, 1]],
    ["modules_to_save", ["lm_head"]],
    ["lora_bias", true],
    ["fan_in_fan_out", true],
    ["use_qalora", true],
    ["use_bdlora", { target_modules_bd_a: ["q_proj"] }],
    ["megatron_config", { a: 1 }],
    ["layer_replication", [[0, 4]]],
    ["trainable_token_indices", [0]],
    ["target_parameters", ["experts.gate_up_proj"]],
    ["alora_invocation_tokens", [1]],
    ["arrow_config", { top_k: 3 }],
    ["kasa_config", { beta: 1 }],
    ["monteclora_config", { n: 1 }],
    ["init_lora_weights", "pissa"],
    ["init_lora_weights", "pissa_niter_16"],
    ["init_lora_weights", "olora"],
    ["init_lora_weights", "corda"],
    ["init_lora_weights", "loftq"],
    ["init_lora_weights", "not known yet"],
  ])("refuses %s: %j", async (key, value) => {
    await expectRefusal(
      readPeftConfig(withConfig({ [key]: value })),
      "adapter_config.json",
      new RegExp(`: ${key}`),
    );
  });

  it("names the file when it is missing or no configuration", async () => {
    const folder = temporaryFolder();
    await expectRefusal(readPeftConfig(folder), join(folder, "adapter_config.json"), /does not exist/);
    put(folder, "adapter_config.json", "[]");
    await expectRefusal(readPeftConfig(folder), "adapter_config.json", /expected object/);
  });
});

describe("readPeftAdapter", () => {
  it("refuses pickles, with what to do, and folders without weights", async () => {
    const folder = withConfig({});
    await expectRefusal(readPeftAdapter(folder), "adapter_model.safetensors", /does not exist/);
    put(folder, "adapter_model.bin", "x");
    const error = await expectRefusal(readPeftAdapter(folder), "adapter_model.bin", /is a pickle/);
    expect(error.hint).toMatch(/safe_serialization=True/);
    await expectRefusal(adapterTensorHeaders(folder), "adapter_model.bin", /is a pickle/);
  });

  it("widens 16-bit weights, and refuses what is not finite or no float", async () => {
    const folder = withConfig({});
    const path = join(folder, "adapter_model.safetensors");
    await writeSafetensors(
      path,
      new Map([["a", { dtype: "BF16", shape: [2], data: Uint16Array.of(0x3f80, 0xc000) }]]),
    );
    const { tensors } = await readPeftAdapter(folder);
    expect(tensors.get("a")).toEqual({ shape: [2], data: Float32Array.of(1, -2) });
    await writeSafetensors(
      path,
      new Map([["a", { dtype: "BF16", shape: [2], data: Uint16Array.of(0, 0x7f80) }]]),
    );
    await expectRefusal(readPeftAdapter(folder), "adapter_model.safetensors", /a holds Infinity at index 1/);
    await writeSafetensors(path, new Map([["a", { dtype: "I64", shape: [1], data: BigInt64Array.of(1n) }]]));
    await expectRefusal(readPeftAdapter(folder), "adapter_model.safetensors", /has dtype I64/);
  });
});

describe("writePeftAdapter", () => {
  it("fills in PEFT's defaults, sorts the keys and keeps the order of patterns", async () => {
    const folder = temporaryFolder();
    const config = {
      base_model_name_or_path: "models/grün",
      r: 4,
      lora_alpha: 8,
      lora_dropout: 0.05,
      use_dora: true,
      use_rslora: false,
      target_modules: ["q_proj"],
      exclude_modules: undefined,
      rank_pattern: { z: 2, a: 3 },
      alpha_pattern: {},
    } as unknown as PeftConfig;
    await writePeftAdapter(folder, config, new Map([["a", { shape: [1], data: Float32Array.of(1) }]]));
    const json = readJson(folder);
    expect(Object.keys(json)).toEqual(Object.keys(json).toSorted());
    expect(json).toMatchObject({
      peft_type: "LORA",
      exclude_modules: null,
      r: 4,
      use_dora: true,
      lora_dropout: 0.05,
    });
    expect(Object.keys(json["rank_pattern"] as Json)).toEqual(["z", "a"]);
    expect(await readPeftConfig(folder)).toMatchObject(json);
    expect(readdirSync(folder)).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    const known = Object.keys(readJson(EXAMPLE));
    expect(Object.keys(json).filter((key) => !known.includes(key))).toEqual([]);
  });
});
