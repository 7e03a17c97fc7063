/** `qdora eval`: perplexity of a held-out file, multiple-choice tasks and word problems; base against adapter. */
import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { InvalidArgumentError, type Command } from "commander";
import { nearest } from "../config/suggest.js";
import { fromFlagText } from "../config/values.js";
import { DEFAULT_BATCH_TOKENS, DEFAULT_SEQUENCE, evaluate } from "../eval/evaluate.js";
import { resultsJson } from "../eval/result_json.js";
import { resultsTable } from "../eval/result_table.js";
import type { Method } from "../eval/task_part.js";
import { pullTaskData, taskInFolder, TASKS, type TaskName, type TaskSource } from "../eval/task_sources.js";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import type { TuneMode } from "../program/tuner.js";
import { evaluationPrinter } from "../report/eval_progress.js";
import { pullPrinter } from "../report/pull_progress.js";
import { runCommand } from "./run_command.js";
import { localData, localModel, stoppable } from "./stoppable.js";

interface EvalFlags {
  readonly model: string;
  readonly revision: string;
  readonly adapter?: string;
  readonly compareBase?: boolean;
  readonly data?: string;
  readonly tasks?: readonly TaskSource[];
  readonly taskData?: string;
  readonly method: Method;
  readonly limit?: number;
  readonly chat?: boolean;
  readonly maxNewTokens?: number;
  readonly maxSeqLength?: number;
  readonly trainOnPrompt?: boolean;
  readonly batchTokens: number;
  readonly output?: string;
  readonly quant: "nf4" | "none";
  readonly doubleQuant: boolean;
  readonly device?: string;
  readonly tune: TuneMode;
  readonly json?: boolean;
}

const count = (text: string): number => {
  const value = fromFlagText(text, "number");
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError("expected a whole number of at least 1");
};

const oneOf =
  <T extends string>(...words: readonly T[]) =>
  (text: string): T => {
    const found = words.find((word) => word === text);
    if (found === undefined) throw new InvalidArgumentError(`expected ${words.join(" or ")}`);
    return found;
  };

/** `boolq,arc_easy=FILE`. */
function taskSources(text: string): readonly TaskSource[] {
  const sources = text.split(",").map((part): TaskSource => {
    const [, name = "", path] = /^([^=]*)(?:=(.*))?$/s.exec(part.trim()) ?? [];
    const task = TASKS.find((known) => known === name);
    if (task === undefined) {
      const near = nearest(name, TASKS);
      throw new InvalidArgumentError(
        `${JSON.stringify(name)} is no task${near ? ` (did you mean ${near}?)` : ""}; there are ${TASKS.join(", ")}`,
      );
    }
    return { task, path: path === "" ? undefined : path };
  });
  const twice = sources.find(({ task }, i) => sources.findIndex((one) => one.task === task) < i);
  if (twice) throw new InvalidArgumentError(`${twice.task} is named twice`);
  return sources;
}

/** Tasks that name no file of their own find it in `--task-data`. */
async function located(
  sources: readonly TaskSource[],
  folder: string | undefined,
): Promise<readonly TaskSource[]> {
  if (folder === undefined) return sources;
  const found = async ({ task, path }: TaskSource): Promise<TaskSource> => ({
    task,
    path: path ?? (await taskInFolder(folder, task)),
  });
  return Promise.all(sources.map(found));
}

/** Flags that would do nothing are refused. */
function checkFlags(flags: EvalFlags): void {
  const generated = (flags.tasks ?? []).filter(
    ({ task }: { readonly task: TaskName }) =>
      flags.method === "generate" || task === "gsm8k" || task === "orca_math",
  );
  const refuse = (flag: string, fact: string, hint: string): never => {
    throw new QdoraError(flag, fact, hint, { exitCode: 2 });
  };
  if (flags.taskData !== undefined && !flags.tasks)
    refuse("--task-data", "there are no tasks", "add --tasks NAMES, or leave it out");
  if (flags.method === "generate" && !flags.tasks)
    refuse("--method", "is about tasks, and there are none", "add --tasks NAMES, or leave it out");
  for (const [flag, value] of [
    ["--chat", flags.chat],
    ["--max-new-tokens", flags.maxNewTokens],
  ] as const)
    if (value !== undefined && generated.length === 0)
      refuse(flag, "nothing is generated", "add --method generate or the task gsm8k, or leave it out");
  for (const [flag, value] of [
    ["--max-seq-length", flags.maxSeqLength],
    ["--train-on-prompt", flags.trainOnPrompt],
  ] as const)
    if (value !== undefined && flags.data === undefined)
      refuse(flag, "is about --data, and there is none", "add --data FILE, or leave it out");
}

async function checkOutput(path: string): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  const folder = await stat(dirname(resolve(path))).catch(() => undefined);
  if (there?.isDirectory() === true)
    throw new QdoraError("--output", `${path} is a folder`, "name a file", { exitCode: 2 });
  if (folder?.isDirectory() !== true)
    throw new QdoraError("--output", `${dirname(path)} is no folder`, "make it first", { exitCode: 2 });
}

export function addEval(program: Command): void {
  program
    .command("eval")
    .description(
      "held-out loss, multiple-choice tasks and word problems of a model, or of a model and an adapter",
    )
    .requiredOption("--model <model>", "model folder, or ORG/NAME of the Hub")
    .option("--revision <name>", "branch, tag or commit of a model of the Hub", "main")
    .option("--adapter <folder>", "PEFT adapter folder")
    .option("--compare-base", "evaluate the model without its adapter too, with a paired test")
    .option("--data <file>", "held-out rows, as data of finetune: perplexity, loss per token and per byte")
    .option("--tasks <names>", `NAME or NAME=FILE, with commas between: ${TASKS.join(", ")}`, taskSources)
    .option("--task-data <folder>", "holds boolq.jsonl and the like; without it, tasks come from the Hub")
    .option(
      "--method <method>",
      "multiple choice by likelihood, as lm-evaluation-harness; or generate, as the DoRA paper",
      oneOf("likelihood", "generate"),
      "likelihood",
    )
    .option("--limit <n>", "at most so many items of each task, and rows of --data", count)
    .option("--chat", "put prompts of generated answers into the model's chat template")
    .option("--max-new-tokens <n>", "longest generated answer (default: 32, word problems 256)", count)
    .option(
      "--max-seq-length <n>",
      `rows of --data are cut here (default: ${DEFAULT_SEQUENCE}, or the model's positions)`,
      count,
    )
    .option("--train-on-prompt", "score the prompts of --data too, not the answers only")
    .option(
      "--batch-tokens <n>",
      "tokens scored together; more is faster and takes more memory",
      count,
      DEFAULT_BATCH_TOKENS,
    )
    .option("--output <file>", "writes a line of JSON for each item")
    .option("--quant <type>", "nf4 or none: how the base weights are held", oneOf("nf4", "none"), "nf4")
    .option("--no-double-quant", "keep the block maxima of NF4 in f32")
    .option("--device <name>", "software, hardware, or a part of the adapter's name")
    .option("--tune <mode>", "off, quick or full, as for finetune", oneOf("off", "quick", "full"), "quick")
    .option("--json", "one JSON object with all results on stdout")
    .action((flags: EvalFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, () => run(flags)),
    );
}

async function run(flags: EvalFlags): Promise<number> {
  checkFlags(flags);
  if (flags.output !== undefined) await checkOutput(flags.output);
  const tasks = await located(flags.tasks ?? [], flags.taskData);
  const model = await localModel(flags.model, flags.revision);
  if ("exit" in model) return model.exit;
  if (flags.data !== undefined) {
    const pulled = await localData(flags.data);
    if ("exit" in pulled) return pulled.exit;
  }
  const pulled = await stoppable((signal) =>
    pullTaskData(tasks, { signal, listen: pullPrinter(process.stderr) }),
  );
  if ("exit" in pulled) return pulled.exit;
  const { listen, end } = evaluationPrinter(process.stderr);
  const results = await evaluate({ ...flags, model: model.value.path, tasks }, listen).finally(end);
  if (flags.output !== undefined) {
    const lines = results.flatMap(({ perItem }) => perItem.map((item) => `${JSON.stringify(item)}\n`));
    await writeFileAtomic(flags.output, lines.join(""));
  }
  process.stderr.write(resultsTable(results));
  if (flags.json) {
    const { adapter = null, quant } = flags;
    process.stdout.write(
      `${JSON.stringify({ model: flags.model, adapter, quant, ...resultsJson(results) })}\n`,
    );
  }
  return 0;
}
