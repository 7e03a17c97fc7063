/** `qdora eval` through the built command line: a held-out file and tasks, base against adapter, from disk and from the Hub. */
import { copyFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ITEMS, itemsFile, HARNESS } from "../eval/harness.js";
import { startMockHub } from "../hub/mock_hub.js";
import { hubEnvironment, newCache } from "../hub/pull_story.js";
import { expectRefused, LLAMA, qdora, storyFolder, TINY, writeRows, type Finished } from "./qdora.js";

const folder = storyFolder();
const EVAL = ["eval", "--model", TINY, "--tune", "off"];

type Numbers = Readonly<Record<string, number>>;
interface Paired {
  readonly nll: { readonly difference: number; readonly interval_95: readonly number[] };
}
interface Report {
  readonly text?: Numbers & { readonly base: Numbers; readonly paired: Paired };
  readonly tasks?: Readonly<
    Record<string, Numbers & { readonly base: Numbers; readonly paired: Readonly<Record<string, Numbers>> }>
  >;
}
const report = (run: Finished | undefined): Report => JSON.parse(run?.stdout ?? "") as Report;

describe("base against adapter", () => {
  const out = join(folder, "adapter");
  const items = join(folder, "items.jsonl");
  let trained: Finished;
  let compared: Finished;
  beforeAll(async () => {
    const data = join(TINY, "demo");
    const optimisation = "--batch-size 4 --gradient-accumulation-steps 1 --learning-rate 5e-3 --max-steps 6";
    trained = await qdora([
      ...`finetune --model ${TINY} --data ${data} --output-dir ${out} --compute-dtype f32 --tune off`.split(
        " ",
      ),
      ...optimisation.split(" "),
    ]);
    const tasks = `--tasks piqa,gsm8k=${itemsFile("gsm8k")}[:2] --task-data ${ITEMS} --max-new-tokens 8`;
    compared = await qdora([
      ...EVAL,
      ...`--adapter ${out} --compare-base --data ${data} --limit 8 --output ${items} --json`.split(" "),
      ...tasks.split(" "),
    ]);
  });

  it("gives held-out loss, perplexity and accuracies of both, with paired differences", () => {
    expect(trained.status, trained.stderr).toBe(0);
    expect(compared.status, compared.stderr).toBe(0);
    const { text, tasks } = report(compared);
    expect(text).toMatchObject({ rows: 8, truncated: 0, broken: 0 });
    const difference = (text?.["nll"] ?? NaN) - (text?.base["nll"] ?? NaN);
    expect(difference).toBeLessThan(-1);
    expect(text?.paired.nll.difference).toBeCloseTo(difference, 9);
    const [low = NaN, high = NaN] = text?.paired.nll.interval_95 ?? [];
    expect(low).toBeLessThanOrEqual(difference);
    expect(high).toBeGreaterThanOrEqual(difference);
    expect(text?.["perplexity"]).toBeCloseTo(Math.exp(text?.["nll"] ?? NaN), 9);
    expect(text?.["bits_per_byte"]).toBeCloseTo((text?.["nll_per_byte"] ?? NaN) / Math.LN2, 9);
    expect(tasks?.["piqa"]).toMatchObject({ items: 8 });
    expect(tasks?.["piqa"]?.paired["acc"]?.["difference"]).toBeCloseTo(
      (tasks?.["piqa"]?.["acc"] ?? NaN) - (tasks?.["piqa"]?.base["acc"] ?? NaN),
      12,
    );
    expect(tasks?.["gsm8k"]).toMatchObject({ items: 2, exact_match_strict: 0 });
  });
  it("shows them as a table on stderr", () => {
    expect(compared.stderr).toMatch(/items {2}metric .*base .*adapter .*difference/);
    expect(compared.stderr).toMatch(
      /nll per token {2,}\d\.\d{4} ± \d\.\d{4} {2,}\d\.\d{4} ± .* {2}-\d\.\d{4} ± .*95 %: -/,
    );
    expect(compared.stderr).toMatch(/^piqa .*acc .*p [=<] /m);
  });
  it("writes a line for each item, with what the base said", () => {
    const lines = readFileSync(items, "utf8").trimEnd().split("\n");
    const [first, , , , , , , , piqa] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toHaveLength(8 + 8 + 2);
    expect(Object.keys(first ?? {})).toEqual(["data", "row", "tokens", "bytes", "nll", "base"]);
    expect(Object.keys(piqa ?? {})).toEqual([
      "task",
      "item",
      "gold",
      "acc",
      "acc_norm",
      "prediction",
      "log_likelihoods",
      "base",
    ]);
  });
  it("agrees with the held-out loss that finetune writes", async () => {
    const run = await qdora([...EVAL, "--adapter", out, "--data", join(TINY, "demo"), "--json"]);
    const metrics = readFileSync(join(out, "metrics.jsonl"), "utf8").trimEnd().split("\n");
    const losses = metrics.flatMap((line) => (JSON.parse(line) as { eval_loss?: number }).eval_loss ?? []);
    // Sums of f32 losses in another order.
    expect(report(run).text?.["nll"]).toBeCloseTo(losses.at(-1) ?? NaN, 4);
  });
  it("says the same bytes again", async () => {
    const args = [
      ...EVAL,
      "--adapter",
      out,
      "--tasks",
      "piqa",
      "--task-data",
      ITEMS,
      "--limit",
      "4",
      "--json",
    ];
    const [one, two] = [await qdora(args), await qdora(args)];
    expect(one.status, one.stderr).toBe(0);
    expect(two.stdout).toBe(one.stdout);
  });
});

describe("by generation", () => {
  it("takes items of the Hub's shape and LLM-Adapters' own, and keeps what was said", async () => {
    const rows = writeRows(join(folder, "questions.jsonl"), [
      { passage: "The sea is wide.", question: "is the sea wide", answer: true },
      { instruction: "Is the sea dry? Answer format: true/false", input: "", answer: "false" },
    ]);
    const said = join(folder, "said.jsonl");
    const args = `--method generate --tasks boolq=${rows} --max-new-tokens 4 --output ${said} --json`;
    const run = await qdora([...EVAL, ...args.split(" ")]);
    expect(run.status, run.stderr).toBe(0);
    const items = readFileSync(said, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(items.map(({ gold }) => gold)).toEqual(["true", "false"]);
    // The tiny model does not answer; what it writes is kept, and counts as wrong.
    expect(items.map(({ text }) => typeof text === "string" && text !== "")).toEqual([true, true]);
    expect(report(run).tasks?.["boolq"]).toMatchObject({ items: 2, acc: 0 });
  });
});

describe("tasks of the Hub", () => {
  it("are pulled from its Parquet copy, and read from the cache afterwards", async () => {
    const bytes = readFileSync(join(ITEMS, "arc_easy.parquet"));
    const hub = await startMockHub({
      id: "allenai/ai2_arc",
      type: "datasets",
      branch: "refs/convert/parquet",
      files: {
        "ARC-Easy/test/0000.parquet": { bytes, large: true },
        "ARC-Challenge/test/0000.parquet": { bytes: Buffer.from("unwanted"), large: true },
      },
    });
    const env = hubEnvironment(newCache().home, hub.url);
    const args = [...EVAL, "--quant", "none", "--tasks", "arc_easy", "--json"];
    const run = await qdora(args, { env });
    expect(run.status, run.stderr).toBe(0);
    expect(report(run).tasks?.["arc_easy"]?.["acc"]).toBe(HARNESS.tasks.arc_easy.scores["acc"]);
    expect(hub.seen.some(({ url }) => url.includes("ARC-Challenge/"))).toBe(false);
    const offline = await qdora(args, { env: { ...env, HF_HUB_OFFLINE: "1" } });
    expect(offline.stdout).toBe(run.stdout);
  });
});

describe("refusals", () => {
  const refuse = async (args: readonly string[], exit: 1 | 2, says: RegExp): Promise<void> =>
    expectRefused(await qdora([...EVAL, ...args]), exit, says);

  it("needs something to evaluate", () => refuse([], 2, /nothing to evaluate[^]*--data FILE, --tasks NAMES/));
  it("knows the tasks", () =>
    refuse(["--tasks", "arc_esay"], 2, /"arc_esay" is no task \(did you mean arc_easy\?\)/));
  it("takes a task once", () => refuse(["--tasks", "piqa,piqa=x"], 2, /piqa is named twice/));
  it("needs an adapter to compare with the base", () =>
    refuse(["--compare-base", "--data", join(TINY, "demo")], 2, /compare_base: there is no adapter/));
  it("accepts no flag that does nothing", async () => {
    await refuse(["--data", "x", "--chat"], 2, /--chat: nothing is generated/);
    await refuse(["--data", "x", "--task-data", "x"], 2, /--task-data: there are no tasks/);
    await refuse(["--tasks", "piqa", "--max-seq-length", "9"], 2, /--max-seq-length: is about --data/);
    await refuse(["--data", "x", "--method", "generate"], 2, /--method: is about tasks/);
  });
  it("names the file that lacks", () =>
    refuse(["--tasks", "boolq", "--task-data", folder], 1, /task_data: .* has no boolq\.jsonl/));
  it("names the item that is broken", () =>
    refuse(
      ["--tasks", `boolq=${itemsFile("piqa")}`],
      1,
      /piqa\.jsonl:1: passage is missing instead of text/,
    ));
  it("knows before the work that the output cannot be written", async () => {
    await refuse(["--data", join(TINY, "demo"), "--output", folder], 2, /--output: .* is a folder/);
    await refuse(
      ["--data", join(TINY, "demo"), "--output", join(folder, "no", "x")],
      2,
      /--output: .* is no folder/,
    );
  });
  it("cuts at the model's positions at most", () =>
    refuse(
      ["--data", join(TINY, "demo"), "--max-seq-length", "513"],
      2,
      /max_seq_length: got 513 \(limit 512/,
    ));
  it("says that a model without a tokenizer has no tasks", async () =>
    expectRefused(
      await qdora(["eval", "--model", LLAMA, "--tasks", `piqa=${itemsFile("piqa")}`]),
      1,
      /tokenizer\.json/,
    ));
  it("reads a folder of splits where the task has none", async () => {
    const splits = join(folder, "splits");
    mkdirSync(splits);
    copyFileSync(itemsFile("piqa"), join(splits, "train.jsonl"));
    await refuse(["--tasks", `piqa=${splits}`], 1, /has no split validation[^]*it has train/);
    expect(existsSync(join(splits, "train.jsonl"))).toBe(true);
  });
});
