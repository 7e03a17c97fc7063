/** A short run on the tiny model, from settings to an adapter that is used again. The stories share one first run. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { qdora, storyFolder, TINY, writeRows, type Finished } from "./qdora.js";

const folder = storyFolder();
const first = join(folder, "first");
const again = join(folder, "again");

const rows = ["rain", "sun", "wind", "snow", "fog", "hail", "frost", "dew"].map((weather) => ({
  messages: [
    { role: "user", content: `Is there ${weather}?` },
    { role: "assistant", content: `Ahoy! The ${weather} is near.` },
  ],
}));
const settings = join(folder, "run.yaml");
writeFileSync(
  settings,
  `
model: ${TINY}
data: ${writeRows(join(folder, "train.jsonl"), rows)}
output_dir: ${first}
rank: 4
batch_size: 2
gradient_accumulation_steps: 1
max_steps: 3
learning_rate: 5.0e-3
warmup_steps: 0
val_size: 2
eval_steps: 2
seed: 7
tune: "off"
`,
);

const RUN_FILES = [
  "README.md",
  "adapter_config.json",
  "adapter_model.safetensors",
  "metrics.jsonl",
  "qdora_config.yaml",
  "report.html",
  "tokenizer.json",
  "tokenizer_config.json",
];
const STEP_KEYS = [
  "step",
  "loss",
  "grad_norm",
  "learning_rate",
  "epoch",
  "tokens",
  "tokens_per_second",
  "gpu_bytes",
];

type Line = Readonly<Record<string, number>>;
const metrics = (out: string): readonly Line[] =>
  readFileSync(join(out, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
const stepsOf = (out: string): readonly Line[] => metrics(out).filter((line) => "loss" in line);
const evaluationsOf = (out: string): readonly Line[] => metrics(out).filter((line) => "eval_loss" in line);
/** Everything but the clock. */
const numbersOf = (out: string): readonly object[] =>
  metrics(out).map(({ tokens_per_second: _, ...line }) => line);
const adapterOf = (out: string): Buffer => readFileSync(join(out, "adapter_model.safetensors"));

async function finetune(...args: string[]): Promise<Finished> {
  const run = await qdora(["finetune", "--config", settings, ...args]);
  if (run.status !== 0) throw new Error(run.stderr);
  return run;
}

describe("finetune", () => {
  let run: Finished;
  // On a software GPU that has never seen these kernels, compiling them takes a minute.
  beforeAll(async () => {
    run = await finetune();
  });

  it("writes the files of the contract and nothing else", () => {
    expect(readdirSync(first).toSorted()).toEqual([...RUN_FILES, "checkpoint-3"].toSorted());
    expect(run.stdout).toBe("");
    expect(run.stderr).toContain(`adapter: ${first}\n`);
    expect(JSON.parse(readFileSync(join(first, "adapter_config.json"), "utf8"))).toMatchObject({
      peft_type: "LORA",
      task_type: "CAUSAL_LM",
      use_dora: true,
      r: 4,
      lora_alpha: 8,
      base_model_name_or_path: TINY,
      target_modules: ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
    });
    expect(parse(readFileSync(join(first, "qdora_config.yaml"), "utf8"))).toMatchObject({
      rank: 4,
      alpha: 8,
      seed: 7,
      quant: "nf4",
      max_steps: 3,
    });
    expect(readFileSync(join(first, "report.html"), "utf8")).toMatch(
      /<svg[\s\S]*held-out loss[\s\S]*<\/html>/,
    );
    for (const name of ["tokenizer.json", "tokenizer_config.json"]) {
      expect(readFileSync(join(first, name)).equals(readFileSync(join(TINY, name)))).toBe(true);
    }
  });

  it("writes a line of metrics for each step and each evaluation, as they come", () => {
    const lines = metrics(first);
    expect(lines.map((line) => [line["step"], "loss" in line])).toEqual([
      [0, false],
      [1, true],
      [2, true],
      [2, false],
      [3, true],
      [3, false],
    ]);
    for (const line of stepsOf(first)) expect(Object.keys(line)).toEqual(STEP_KEYS);
    for (const line of evaluationsOf(first))
      expect(Object.keys(line).toSorted()).toEqual(["epoch", "eval_loss", "step"]);
    expect(lines.flatMap((line) => Object.values(line)).every((value) => Number.isFinite(value))).toBe(true);
    expect(stepsOf(first).map((line) => line["epoch"])).toEqual([1 / 3, 2 / 3, 1]);
    const [before, , after] = evaluationsOf(first).map((line) => line["eval_loss"]!);
    expect(after).toBeLessThan(before!);
  });

  it("needs as many bytes as --dry-run --json says, which writes nothing", async () => {
    const plan = await finetune("--dry-run", "--json", "--output-dir", join(folder, "planned"));
    const { gpu_bytes: bytes, gpu } = JSON.parse(plan.stdout) as {
      gpu_bytes: number;
      gpu: Record<string, number>;
    };
    expect(stepsOf(first).map((line) => line["gpu_bytes"])).toEqual([bytes, bytes, bytes]);
    expect(Object.values(gpu).reduce((a, b) => a + b, 0)).toBe(bytes);
    expect(readdirSync(folder)).not.toContain("planned");
  });

  it("gives the same numbers and bytes again, from the settings that it wrote", async () => {
    await finetune("--config", join(first, "qdora_config.yaml"), "--output-dir", again);
    expect(numbersOf(again)).toEqual(numbersOf(first));
    expect(adapterOf(again).equals(adapterOf(first))).toBe(true);
  });

  it("goes on from its adapter, exactly where it ended", async () => {
    const further = join(folder, "further");
    await finetune("--init-adapter", first, "--output-dir", further, "--max-steps", "1");
    expect(evaluationsOf(further)[0]!["eval_loss"]).toBe(evaluationsOf(first).at(-1)!["eval_loss"]);
    expect(adapterOf(further).equals(adapterOf(first))).toBe(false);
  });

  it("gives an adapter that generate takes, and that inspect finds sound", async () => {
    const ask = [
      "generate",
      "--model",
      TINY,
      "--prompt",
      "Is there rain?",
      "--chat",
      "--max-new-tokens",
      "4",
      "--json",
    ];
    const [plain, adapted] = await Promise.all([qdora(ask), qdora([...ask, "--adapter", first])]);
    expect([plain.status, adapted.status], adapted.stderr).toEqual([0, 0]);
    expect(JSON.parse(adapted.stdout)).toMatchObject({
      prompt_ids: (JSON.parse(plain.stdout) as { prompt_ids: number[] }).prompt_ids,
    });
    const found = await qdora(["inspect", "--json", first]);
    expect(JSON.parse(found.stdout)).toMatchObject({ path: first, ok: true, error: null });
  });
});

/** In this order: each run finds the folder as the one before left it. */
describe("an output folder that was used before", () => {
  const used = join(folder, "used");

  it("holds one run only, and what others put there", async () => {
    mkdirSync(used);
    writeFileSync(join(used, "metrics.jsonl"), '{"step":1,"loss":1}\n{"step":9,"lo');
    writeFileSync(join(used, "notes.txt"), "mine");
    await finetune("--output-dir", used, "--max-steps", "1");
    // What a run that was killed, and another model, could have left.
    for (const name of ["report.html.0123456789ab.tmp", "chat_template.jinja"])
      writeFileSync(join(used, name), "old");
    await finetune("--output-dir", used, "--seed", "8");
    expect(readdirSync(used).toSorted()).toEqual([...RUN_FILES, "checkpoint-3", "notes.txt"].toSorted());
    expect(metrics(used).map((line) => line["step"])).toEqual([0, 1, 2, 2, 3, 3]);
    expect(numbersOf(used)).not.toEqual(numbersOf(first));
    expect(adapterOf(used).equals(adapterOf(first))).toBe(false);
  });

  it("has no adapter after SIGINT, but a checkpoint and the metrics of the steps that were done", async () => {
    let sent = false;
    const run = await qdora(["finetune", "--config", settings, "--output-dir", used, "--max-steps", "1000"], {
      onText: (stderr, child) => {
        if (!sent && stderr.includes("step 2/1000")) sent = child.kill("SIGINT");
      },
    });
    expect(run.status).toBe(130);
    expect(run.stdout).toBe("");
    expect(run.stderr).toMatch(
      /SIGINT: saving and stopping[\s\S]*error: finetune: stopped after step \d+; saved in .*checkpoint-\d+\nhint: .*--resume.*\n$/,
    );
    const saved = `checkpoint-${stepsOf(used).length}`;
    expect(readdirSync(used).toSorted()).toEqual([saved, "metrics.jsonl", "notes.txt", "qdora_config.yaml"]);
    const steps = stepsOf(used).map((line) => line["step"]!);
    expect(steps).toEqual(steps.map((_, i) => i + 1));
    expect(steps.length).toBeGreaterThanOrEqual(2);
  });
});
