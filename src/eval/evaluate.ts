/** An evaluation from its options to its numbers: items and rows first, then the model or models over all of them. */
import { loadTokenizer } from "../data/tokenizer.js";
import { openCheckpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import { Generator } from "../generate/generator.js";
import { otherBaseWarning } from "../model/base_record.js";
import { readArchitecture } from "../model/config.js";
import type { TuneMode } from "../program/tuner.js";
import type { Part } from "./part.js";
import { respond } from "./responder.js";
import { resultOf, type PartAnswers, type PartResult } from "./results.js";
import { Scorer } from "./scorer.js";
import { taskPart, type Method } from "./task_part.js";
import { readTaskRows, type Pulling, type TaskSource } from "./task_sources.js";
import { textPart } from "./text_part.js";

export interface EvaluateOptions {
  /** Model folder. */
  readonly model: string;
  /** PEFT adapter folder. */
  readonly adapter?: string | undefined;
  /** Evaluate the model without its adapter as well, and compare. */
  readonly compareBase?: boolean;
  /** A held-out file, as `data` of finetune. */
  readonly data?: string | undefined;
  readonly tasks?: readonly TaskSource[];
  /** How multiple-choice tasks are decided. */
  readonly method?: Method;
  /** At most so many items of each task, and rows of the file. */
  readonly limit?: number | undefined;
  readonly chat?: boolean;
  readonly maxNewTokens?: number | undefined;
  readonly maxSeqLength?: number | undefined;
  readonly trainOnPrompt?: boolean;
  readonly batchTokens?: number;
  readonly quant?: "nf4" | "none";
  readonly doubleQuant?: boolean;
  readonly device?: string | undefined;
  readonly tune?: TuneMode;
  /** For data sets of the Hub. */
  readonly pulling?: Pulling;
}

/** Which model is at work: the one that is asked about, or the base that it is compared with. */
export type Which = "model" | "base";

export type EvaluateEvent =
  | { readonly type: "gpu"; readonly name: string; readonly isSoftware: boolean }
  | { readonly type: "message"; readonly text: string }
  | { readonly type: "loading"; readonly bytes: number }
  | {
      readonly type: "progress";
      readonly which: Which;
      readonly unit: "tokens" | "answers";
      readonly done: number;
      readonly total: number;
    };

export type EvaluateListener = (event: EvaluateEvent) => void;

export const DEFAULT_SEQUENCE = 1024;
export const DEFAULT_BATCH_TOKENS = 2048;

const usage = (area: string, fact: string, hint: string): QdoraError =>
  new QdoraError(area, fact, hint, { exitCode: 2 });

/** @returns a result for the file, then for each task in the order of the options */
export async function evaluate(
  options: EvaluateOptions,
  listen: EvaluateListener = () => undefined,
): Promise<readonly PartResult[]> {
  const { compareBase = false } = options;
  if (compareBase && options.adapter === undefined)
    throw usage("compare_base", "there is no adapter to compare with", "add --adapter FOLDER");
  // Says what is wrong with a folder that is no model folder.
  await (await openCheckpoint(options.model)).close();
  const parts = await readParts(options);
  const warning = await otherBaseWarning(options.adapter, options.model);
  if (warning !== undefined) listen({ type: "message", text: warning });
  const answers = await answersOf(parts, options, options.adapter, "model", listen);
  const base = compareBase ? await answersOf(parts, options, undefined, "base", listen) : undefined;
  return parts.map((part, i) => resultOf(part, answers[i] as PartAnswers, base?.[i]));
}

async function readParts(options: EvaluateOptions): Promise<readonly Part[]> {
  const { model, data, tasks = [], limit = Infinity } = options;
  if (data === undefined && tasks.length === 0)
    throw usage("data", "there is nothing to evaluate", "give --data FILE, --tasks NAMES or both");
  const arch = await readArchitecture(model);
  const { maxSeqLength = Math.min(DEFAULT_SEQUENCE, arch.maxPositions) } = options;
  if (maxSeqLength > arch.maxPositions)
    throw usage(
      "max_seq_length",
      `got ${maxSeqLength} (limit ${arch.maxPositions}, the positions of this model)`,
      `use --max-seq-length ${arch.maxPositions} or less`,
    );
  const parts: Part[] = [];
  if (data !== undefined)
    parts.push(
      await textPart({
        model,
        data,
        vocabSize: arch.vocab,
        maxSeqLength,
        trainOnPrompt: options.trainOnPrompt === true,
        limit,
      }),
    );
  if (tasks.length === 0) return parts;
  const tokenizer = await loadTokenizer(model);
  const { chat = false, method = "likelihood" } = options;
  if (chat && tokenizer.chatTemplate === undefined)
    throw usage(model, "the tokenizer has no chat template", "leave out --chat");
  for (const source of tasks) {
    const rows = await readTaskRows(source, limit, options.pulling);
    const { maxNewTokens } = options;
    parts.push(
      await taskPart(source.task, rows, {
        tokenizer,
        maxTokens: arch.maxPositions,
        method,
        chat,
        maxNewTokens,
      }),
    );
  }
  return parts;
}

/** What one model says to all parts. The models come one after the other, so that only one is on the GPU. */
async function answersOf(
  parts: readonly Part[],
  options: EvaluateOptions,
  adapter: string | undefined,
  which: Which,
  listen: EvaluateListener,
): Promise<readonly PartAnswers[]> {
  const losses = await lossesOf(parts, options, adapter, which, listen);
  const texts = await textsOf(parts, options, adapter, which, listen);
  let [row, prompt] = [0, 0];
  return parts.map((part) => ({
    losses: losses.slice(row, (row += part.rows.length)),
    texts: part.kind === "task" ? texts.slice(prompt, (prompt += part.prompts.length)) : [],
  }));
}

async function lossesOf(
  parts: readonly Part[],
  options: EvaluateOptions,
  adapter: string | undefined,
  which: Which,
  listen: EvaluateListener,
): Promise<readonly number[]> {
  const rows = parts.flatMap((part) => part.rows);
  if (rows.length === 0) return [];
  const {
    quant = "nf4",
    doubleQuant = true,
    device,
    tune = "quick",
    batchTokens = DEFAULT_BATCH_TOKENS,
  } = options;
  const scorer = await Scorer.open(
    { model: options.model, adapter, quant, doubleQuant, device, tune, batchTokens },
    rows,
    (text) => listen({ type: "message", text }),
    (bytes) => listen({ type: "loading", bytes }),
  );
  try {
    const { name, isSoftware } = scorer.gpu.traits;
    listen({ type: "gpu", name, isSoftware });
    const total = rows.reduce((sum, row) => sum + Math.max(0, row.inputIds.length - 1), 0);
    return await scorer.score(rows, (done) =>
      listen({ type: "progress", which, unit: "tokens", done, total }),
    );
  } finally {
    await scorer.close();
  }
}

async function textsOf(
  parts: readonly Part[],
  options: EvaluateOptions,
  adapter: string | undefined,
  which: Which,
  listen: EvaluateListener,
): Promise<readonly string[]> {
  const prompts = parts.flatMap((part) => (part.kind === "task" ? part.prompts : []));
  if (prompts.length === 0) return [];
  const { model, quant = "nf4", doubleQuant = true, device } = options;
  const context = prompts.reduce((most, p) => Math.max(most, p.ids.length + p.maxNewTokens), 0);
  const tokenizer = await loadTokenizer(model);
  const generator = await Generator.open({ model, adapter, quant, doubleQuant, context, device });
  try {
    const { name, isSoftware } = generator.gpu.traits;
    listen({ type: "gpu", name, isSoftware });
    const texts: string[] = [];
    for (const prompt of prompts) {
      texts.push(await respond(generator, tokenizer, prompt));
      listen({ type: "progress", which, unit: "answers", done: texts.length, total: prompts.length });
    }
    return texts;
  } finally {
    await generator.close();
  }
}
