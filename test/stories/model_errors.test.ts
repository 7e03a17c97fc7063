/** Models, adapters and GPUs that cannot be used: finetune, generate, inspect and doctor say why, and leave nothing behind. */
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { broken, editConfig, editWeights, putNaN, withoutTemplate } from "./broken_models.js";
import { expectRefused, LLAMA, qdora, storyFolder, TINY, writeRows } from "./qdora.js";

type Case = readonly [name: string, args: readonly string[], exit: 1 | 2, says: RegExp];

const folder = storyFolder();
const OUT = join(folder, "out");
const ROWS = writeRows(join(folder, "rows.jsonl"), [{ input_ids: [1, 5, 9, 2] }]);
const ADAPTER = "test/fixtures/training/qdora_llama/adapter_init";
const NO_TEMPLATE = withoutTemplate(join(folder, "no-template"));

/** A sound command, with some flags more; of a flag given twice the last counts. */
const train = (...more: string[]): string[] => [
  "finetune",
  "--model",
  LLAMA,
  "--data",
  ROWS,
  "--output-dir",
  OUT,
  ...more,
];
const generate = (...more: string[]): string[] => ["generate", "--model", TINY, ...more];
const spoilt = (name: string, spoil: (model: string) => void): string =>
  broken(join(folder, name), LLAMA, spoil);

const NAN = spoilt(
  "nan",
  editWeights((bytes) => putNaN(bytes, "model.layers.1.mlp.up_proj.weight", 77)),
);
const MODELS: readonly (readonly [name: string, folder: string, says: RegExp])[] = [
  ["that does not exist", join(folder, "nowhere"), /nowhere: does not exist/],
  ["that is a file", ROWS, /rows\.jsonl: is not a folder/],
  ["without config.json", spoilt("no-config", (m) => rmSync(join(m, "config.json"))), /config\.json/],
  [
    "with a broken config.json",
    spoilt("bad-config", (m) => writeFileSync(join(m, "config.json"), '{"a":')),
    /config\.json: is not valid JSON/,
  ],
  [
    "of another type",
    spoilt("gemma", editConfig({ model_type: "gemma3" })),
    /config\.json: model_type: got "gemma3" \(supported: llama/,
  ],
  [
    "with a size that is text",
    spoilt("text", editConfig({ hidden_size: "64" })),
    /config\.json: hidden_size: .*expected number/,
  ],
  [
    "of an odd width",
    spoilt("odd", editConfig({ hidden_size: 63 })),
    /config\.json: hidden_size: got 63 \(supported: even\)/,
  ],
  [
    "with truncated weights",
    spoilt(
      "cut",
      editWeights((b) => b.subarray(0, 300_000)),
    ),
    /model\.safetensors: tensor .* do not lie in the \d+ bytes/,
  ],
  [
    "with a tensor missing",
    spoilt(
      "lost",
      editWeights((b) =>
        Buffer.from(b.toString("latin1").replace("model.norm.weight", "model.nrom.weight"), "latin1"),
      ),
    ),
    /the tensor model\.norm\.weight is missing/,
  ],
  [
    "with a wrong shape",
    spoilt("shape", editConfig({ intermediate_size: 256 })),
    /gate_proj\.weight has shape \[192, 64\], config\.json says \[256, 64\]/,
  ],
  [
    "with pickles only",
    spoilt("pickle", (m) => renameSync(join(m, "model.safetensors"), join(m, "pytorch_model.bin"))),
    /holds "pytorch_model\.bin" but no model\.safetensors; pickles/,
  ],
];

const CASES: Readonly<Record<string, readonly Case[]>> = {
  generate: [
    [
      "missing model",
      generate("--model", join(folder, "nowhere"), "--prompt", "x"),
      1,
      /nowhere: does not exist/,
    ],
    [
      "model without a tokenizer",
      generate("--model", LLAMA, "--prompt", "x"),
      1,
      /tokenizer\.json: does not exist/,
    ],
    ["empty prompt", generate("--prompt", ""), 2, /prompt: is empty/],
    ["nothing on standard input", generate(), 2, /prompt: is empty/],
    [
      "missing adapter",
      generate("--prompt", "x", "--adapter", join(folder, "none")),
      1,
      /none.adapter_config\.json: does not exist/,
    ],
    [
      "adapter of another model",
      generate("--prompt", "x", "--adapter", ADAPTER),
      1,
      /adapter_init: .*q_proj.* has shape \[8, 64\], this run needs \[8, 192\]/,
    ],
    [
      "--chat without a template",
      generate("--model", NO_TEMPLATE, "--prompt", "x", "--chat"),
      2,
      /the tokenizer has no chat template\nhint: leave out --chat/,
    ],
    [
      "--system without --chat",
      generate("--prompt", "x", "--system", "y"),
      2,
      /--system: works with --chat only/,
    ],
    [
      "more than the context holds",
      generate("--prompt", "x", "--max-new-tokens", "600"),
      2,
      /prompt: \d+ prompt tokens and 600 new ones exceed the model's 512 positions/,
    ],
    [
      "temperature below 0",
      generate("--prompt", "x", "--temperature", "-1"),
      2,
      /'--temperature <t>' argument '-1' is invalid\. expected a number from 0/,
    ],
  ],
  "the GPU": [
    ["no such device", train("--device", "no-such-gpu"), 1, /gpu: no adapter fits "no-such-gpu"/],
    [
      "no such device for generate",
      generate("--prompt", "x", "--device", "no-such-gpu"),
      1,
      /gpu: no adapter fits "no-such-gpu"/,
    ],
    [
      "NaN in the weights",
      train("--model", NAN, "--tune", "off"),
      1,
      /up_proj\.weight holds NaN at index 77/,
    ],
  ],
};

describe.each(Object.entries(CASES))("%s", (_, cases) => {
  it.concurrent.each(cases)("refuses: %s", async (_name, args, exit, says) => {
    expectRefused(await qdora(args), exit, says);
    expect(existsSync(OUT)).toBe(false);
  });
});

describe("a model folder", () => {
  it.concurrent.each(MODELS.filter(([name]) => !/config|type|text|shape/.test(name)))(
    "%s is refused",
    async (_name, model, says) => {
      expectRefused(await qdora(train("--model", model)), 1, says);
      expect(existsSync(OUT)).toBe(false);
    },
  );

  it("that is broken is named by inspect, which goes on to the next", async () => {
    const folders = [...MODELS.map(([, model]) => model), LLAMA, ADAPTER];
    const { status, stdout } = await qdora(["inspect", "--json", ...folders]);
    const found = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { path: string; ok: boolean; error: string | null });
    expect(found.map(({ path }) => path)).toEqual(folders);
    expect(found.map(({ ok }) => ok)).toEqual([...MODELS.map(() => false), true, true]);
    for (const [index, [, , says]] of MODELS.entries()) expect(found[index]!.error).toMatch(says);
    expect(status).toBe(1);
  });
});

describe("inspect", () => {
  it("says what is wrong with one folder and goes on", async () => {
    const run = await qdora(["inspect", join(folder, "nowhere"), LLAMA]);
    expect(run.stdout).toBe("");
    expect(run.stderr).toMatch(
      /nowhere\nerror: \S+nowhere: does not exist\nhint: .+\n\S+llama\n  model llama: 2 layers/,
    );
    expect(run.status).toBe(1);
  });

  it("ends with 0 when all folders are sound", async () => {
    const run = await qdora(["inspect", "--json", LLAMA, ADAPTER]);
    const lines = run.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
    expect(lines).toMatchObject([
      { path: LLAMA, ok: true, error: null },
      { path: ADAPTER, ok: true, error: null },
    ]);
    expect(run).toMatchObject({ status: 0, stderr: "" });
  });
});

describe("doctor", () => {
  it.concurrent.each([
    ["--device", ["doctor", "--json", "--device", "no-such-gpu"], {}],
    ["QDORA_ADAPTER", ["doctor", "--json"], { QDORA_ADAPTER: "no-such-gpu" }],
  ] as const)("refuses a %s that no adapter fits", async (_, args, env) => {
    expectRefused(
      await qdora(args, { env }),
      1,
      /gpu: no adapter fits "no-such-gpu"\nhint: there (is|are) .*, vendor \w+.*: give a part of a name/,
    );
  });
  it.concurrent("takes a part of a name as Dawn lists it, and of a vendor", async () => {
    const shown = await qdora(["doctor", "--json"]);
    const { all_adapters: all = "", vendor = "" } = JSON.parse(shown.stdout) as Record<string, string>;
    expect(all).toMatch(/\w/);
    const [last = ""] = all.split("; ").slice(-1);
    for (const device of [last.slice(2), vendor.split(" ")[0] ?? ""]) {
      const run = await qdora(["doctor", "--json", "--device", device.toUpperCase()]);
      expect(run.status, run.stderr).toBe(0);
    }
  });
});
