/** What a user can get wrong with flags, settings and data has one readable message and an exit code, and leaves nothing behind. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { withoutTemplate } from "./broken_models.js";
import { expectRefused, LLAMA, qdora, storyFolder, writeRows } from "./qdora.js";

type Case = readonly [name: string, args: readonly string[], exit: 1 | 2, says: RegExp];

const folder = storyFolder();
const OUT = join(folder, "out");
const ROWS = writeRows(join(folder, "rows.jsonl"), [{ input_ids: [1, 5, 9, 2] }, { input_ids: [1, 7, 2] }]);
const ADAPTER = "test/fixtures/training/qdora_llama/adapter_init";

/** A sound `finetune` of the small model, with some flags more; of a flag given twice the last counts. */
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
const data = (name: string, ...rows: (object | string)[]): string[] => [
  "--data",
  writeRows(join(folder, name), rows),
];
const yaml = (name: string, text: string): string[] => {
  writeFileSync(join(folder, name), text);
  return ["--config", join(folder, name)];
};
/** The folder of a run that was stopped: checkpoints, the last of them not the last by letters. */
const unfinished = (): string => {
  const run = join(folder, "unfinished");
  for (const step of [2, 10]) mkdirSync(join(run, `checkpoint-${step}`), { recursive: true });
  return run;
};

const NO_TEMPLATE = withoutTemplate(join(folder, "no-template"));
const CASES: Readonly<Record<string, readonly Case[]>> = {
  "the command line": [
    ["unknown command", ["fintune"], 2, /usage: unknown command 'fintune'\nhint: did you mean finetune\?/],
    [
      "unknown flag",
      train("--learning-rat", "1"),
      2,
      /unknown option '--learning-rat'\nhint: did you mean --learning-rate\?/,
    ],
    ["flag of plan", train("--gpu", "6GB"), 2, /unknown option '--gpu'\nhint: did you mean --memory-limit\?/],
    [
      "name from elsewhere",
      train(...yaml("elsewhere.yaml", "lora_r: 8\n")),
      2,
      /elsewhere\.yaml: lora_r: is not a known key\nhint: did you mean rank\?/,
    ],
    ["unknown flag of doctor", ["doctor", "--xyz"], 2, /unknown option '--xyz'\nhint: `qdora doctor --help`/],
    ["flag without its value", train("--rank"), 2, /'--rank <n>' argument missing/],
    ["argument too many", train("more"), 2, /too many arguments/],
    ["nothing to inspect", ["inspect"], 2, /missing required argument 'dir'/],
    [
      "no keys at all",
      ["finetune"],
      2,
      /config: model, data, output_dir are missing\nhint: give --model, --data, --output-dir/,
    ],
    ["finetune --json without a dry run", train("--json"), 2, /--json: .*\nhint: add --dry-run/],
    [
      "bench memory over rows",
      ["bench", "memory", "--geometry", "x", "--resume"],
      2,
      /unknown option '--resume'/,
    ],
    ["generate without a model", ["generate", "--prompt", "x"], 2, /required option '--model <model>'/],
  ],
  "the YAML file": [
    ["missing file", train("--config", join(folder, "no.yaml")), 2, /no\.yaml: does not exist/],
    [
      "unknown key",
      train(...yaml("key.yaml", "rnk: 8\n")),
      2,
      /key\.yaml: rnk: is not a known key\nhint: did you mean rank\?/,
    ],
    [
      "syntax",
      train(...yaml("syntax.yaml", "rank: 8\nalpha: [1\nseed: 0\n")),
      2,
      /syntax\.yaml: line \d+: .+/,
    ],
    [
      "wrong type",
      train(...yaml("type.yaml", "rank: eight\n")),
      2,
      /type\.yaml: rank: got "eight", expected a whole number/,
    ],
    ["a list", train(...yaml("list.yaml", "- rank\n")), 2, /list\.yaml: is not a mapping/],
  ],
  values: [
    ["rank 0", train("--rank", "0"), 2, /--rank: got "0", expected a whole number of at least 1/],
    ["rank of text", train("--rank", "big"), 2, /--rank: got "big"/],
    [
      "rank beyond a target's smaller side",
      train("--rank", "33"),
      2,
      /rank: model\.layers\.0\.self_attn\.k_proj cannot have rank 33 \(limit 32/,
    ],
    ["alpha 0", train("--alpha", "0"), 2, /--alpha: got "0", expected a number above 0/],
    ["learning rate 0", train("--learning-rate", "0"), 2, /--learning-rate: got "0"/],
    ["dropout 1", train("--dropout", "1"), 2, /--dropout: got "1", expected a number from 0 to below 1/],
    ["dropout", train("--dropout", "0.1"), 2, /dropout: 0\.1 is not supported in this version\nhint: use 0/],
    ["save_steps 0", train("--save-steps", "0"), 2, /--save-steps: got "0", expected a whole number/],
    ["save_total_limit 0", train("--save-total-limit", "0"), 2, /--save-total-limit: got "0"/],
    ["epochs below 0", train("--epochs", "-1"), 2, /--epochs: got "-1"/],
    ["boolean", train("--use-dora", "maybe"), 2, /--use-dora: got "maybe", expected true or false/],
    ["choice", train("--quant", "int8"), 2, /--quant: got "int8", expected one of nf4, none/],
    [
      "unknown target",
      train("--target-modules", "q_proj,qproj"),
      2,
      /target_modules: no module of this model is called "qproj"\nhint: choose from q_proj/,
    ],
    [
      "broken expression",
      train("--target-modules", "(q|k"),
      2,
      /target_modules: "\(q\|k" is not a regular expression/,
    ],
    [
      "all excluded",
      train("--exclude-modules", ".*"),
      2,
      /target_modules: "all-linear" leaves no module to train/,
    ],
    ["more held-out rows than there are", train("--val-size", "2"), 2, /val_size: leaves no row to train on/],
    [
      "memory limit that is no size",
      train("--memory-limit", "6XB"),
      2,
      /--memory-limit: got "6XB", expected auto, or a size/,
    ],
    [
      "memory limit too small",
      train("--memory-limit", "100kB"),
      1,
      /memory_limit: the plan needs [\d.]+ MB on the GPU, [\d.]+ MB more than the limit of 100 kB/,
    ],
    [
      "memory limit too small, dry run",
      train("--memory-limit", "100kB", "--dry-run", "--json"),
      1,
      /memory_limit: the plan needs/,
    ],
  ],
  "the output folder": [
    ["a file", train("--output-dir", ROWS), 2, /output_dir: .*rows\.jsonl is a file/],
    ["below a file", train("--output-dir", join(ROWS, "out")), 2, /output_dir: .*rows\.jsonl is a file/],
    // There Node's own recursive mkdir never ends.
    [
      "where none can be",
      train("--output-dir", "/proc/x"),
      1,
      /output_dir: \/proc\/x: cannot be made there\n/,
    ],
    ["the model folder", train("--output-dir", `${LLAMA}/.`), 2, /output_dir: .* is the model folder/],
    [
      "the init_adapter folder",
      train("--output-dir", ADAPTER, "--init-adapter", ADAPTER),
      2,
      /output_dir: .* is the init_adapter folder/,
    ],
    ["a file, dry run", train("--output-dir", join(ROWS, "out"), "--dry-run"), 2, /output_dir: .* is a file/],
  ],
  data: [
    ["missing", train("--data", join(folder, "no.jsonl")), 1, /data: .*no\.jsonl does not exist/],
    ["unknown ending", train("--data", "models/tiny/README.md"), 1, /data: README\.md has the ending "\.md"/],
    ["a folder without rows", train("--data", "models"), 1, /data: models has no train\.jsonl/],
    ["empty", train(...data("empty.jsonl")), 1, /data: .*empty\.jsonl has no rows/],
    [
      "malformed line",
      train(...data("line.jsonl", { input_ids: [1, 2] }, '{"input_ids": [1,')),
      1,
      /line\.jsonl:2: is not JSON/,
    ],
    [
      "unknown shape",
      train(...data("shape.jsonl", { question: "?", answer: "!" })),
      1,
      /shape\.jsonl:1: the row has no known shape; its keys are "question", "answer"/,
    ],
    ["row that is no object", train(...data("number.jsonl", "7")), 1, /number\.jsonl:1: the row is a number/],
    [
      "no scored label",
      train(...data("unscored.jsonl", { input_ids: [1, 2, 3], labels: [-100, -100, -100] })),
      1,
      /data: no train row of .* has a scored label/,
    ],
    [
      "labels of another length",
      train(...data("labels.jsonl", { input_ids: [1, 2], labels: [1] })),
      1,
      /labels\.jsonl:1: labels and input_ids differ in length, got 1 and 2/,
    ],
    [
      "token id out of range",
      train(...data("ids.jsonl", { input_ids: [1, 320] })),
      1,
      /ids\.jsonl:1: input_ids is outside the model's vocabulary, got 320 \(limit 319\)/,
    ],
    [
      "row beyond the model's positions",
      train(...data("long.jsonl", { input_ids: Array(600).fill(5) })),
      2,
      /max_seq_length: the longest row has 600 tokens \(limit 512/,
    ],
    [
      "text without a tokenizer",
      train(...data("text.jsonl", { text: "hello" })),
      1,
      /tokenizer\.json: does not exist/,
    ],
    [
      "conversation without a chat template",
      train(
        "--model",
        NO_TEMPLATE,
        ...data("chat.jsonl", {
          messages: [
            { role: "user", content: "a" },
            { role: "assistant", content: "b" },
          ],
        }),
      ),
      1,
      /chat template: the model's tokenizer has none/,
    ],
  ],
  init_adapter: [
    [
      "missing",
      train("--init-adapter", join(folder, "none")),
      1,
      /none.adapter_config\.json: does not exist/,
    ],
    [
      "of a run that did not finish",
      train("--init-adapter", unfinished()),
      1,
      /the run is not finished: there are checkpoints up to checkpoint-10,.*\nhint: .*--resume`, or give .*checkpoint-10/,
    ],
    [
      "of another rank",
      train("--init-adapter", ADAPTER, "--rank", "4"),
      1,
      /lora_A\.weight has shape \[8, 64\], this run needs \[4, 64\]/,
    ],
    [
      "of another method",
      train("--init-adapter", ADAPTER, "--rank", "8", "--use-dora", "false"),
      1,
      /also holds .*lora_magnitude_vector, which this run does not train/,
    ],
    [
      "of another scaling",
      train("--init-adapter", ADAPTER, "--rank", "8", "--alpha", "1"),
      1,
      /scales model\.layers\.0\.self_attn\.q_proj by [\d.]+, this run by 0\.125/,
    ],
    [
      "of other targets",
      train("--init-adapter", ADAPTER, "--rank", "8", "--target-modules", "q_proj"),
      1,
      /also holds .*, which this run does not train\nhint: set target_modules/,
    ],
  ],
};

describe.each(Object.entries(CASES))("%s", (_, cases) => {
  it.concurrent.each(cases)("refuses: %s", async (_name, args, exit, says) => {
    expectRefused(await qdora(args), exit, says);
    expect(existsSync(OUT)).toBe(false);
  });
});
