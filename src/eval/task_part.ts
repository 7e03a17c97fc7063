/** Tasks as parts of an evaluation: by log-likelihood, by generated answers, by generated numbers. */
import { renderChat } from "../data/template.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { QdoraError } from "../formats/error.js";
import { CHOICE_TASKS, choiceItem, HAS_NORM, type ChoiceTaskName } from "./choice_tasks.js";
import { encodePrompt, encodeRequest } from "./encode_pair.js";
import type { TaskRow } from "./fields.js";
import { ANSWER_TOKENS, extractedAnswer, instructionItem, instructionPrompt } from "./instructions.js";
import type { TaskPart } from "./part.js";
import type { Prompt } from "./responder.js";
import type { TaskName } from "./task_sources.js";
import {
  comparable,
  extractedNumbers,
  problemPrompt,
  RESPONSE_ENDS,
  RESPONSE_TOKENS,
  wordProblem,
} from "./word_problems.js";

export type Method = "likelihood" | "generate";

export interface TaskOptions {
  readonly tokenizer: Tokenizer;
  /** Positions of the model. */
  readonly maxTokens: number;
  readonly method: Method;
  /** Prompts go through the model's chat template. */
  readonly chat: boolean;
  /** Instead of the task's own limit. */
  readonly maxNewTokens: number | undefined;
}

const isChoice = (task: TaskName): task is ChoiceTaskName => CHOICE_TASKS.some((name) => name === task);

/** @throws QdoraError naming the item that is not of the task's shape */
export async function taskPart(
  task: TaskName,
  rows: readonly TaskRow[],
  options: TaskOptions,
): Promise<TaskPart> {
  if (!isChoice(task)) return problemPart(task, rows, options);
  return options.method === "likelihood" ? choicePart(task, rows, options) : answerPart(task, rows, options);
}

/** The first index of the largest value. */
const largest = (values: readonly number[]): number => values.indexOf(Math.max(...values));

function choicePart(task: ChoiceTaskName, raw: readonly TaskRow[], options: TaskOptions): TaskPart {
  const items = raw.map((row) => choiceItem(task, row));
  const rows = items.flatMap(({ requests }, i) =>
    requests.map((request) =>
      encodeRequest(options.tokenizer, request, raw[i]?.where ?? task, options.maxTokens),
    ),
  );
  const metrics = HAS_NORM.has(task) ? ["acc", "acc_norm"] : ["acc"];
  return {
    kind: "task",
    name: task,
    metrics,
    items: items.map(({ gold }) => ({ gold })),
    rows,
    prompts: [],
    truncated: rows.filter((row) => row.truncated).length,
    outcomes: (losses) => {
      let at = 0;
      return items.map(({ requests, lengths, gold }) => {
        const likelihoods = losses.slice(at, (at += requests.length)).map((loss) => -loss);
        const prediction = largest(likelihoods);
        const normed = largest(likelihoods.map((x, i) => x / (lengths[i] ?? NaN)));
        const scores = { acc: Number(prediction === gold), acc_norm: Number(normed === gold) };
        return {
          scores: Object.fromEntries(Object.entries(scores).filter(([metric]) => metrics.includes(metric))),
          detail: { prediction, log_likelihoods: likelihoods },
        };
      });
    },
  };
}

async function answerPart(
  task: ChoiceTaskName,
  raw: readonly TaskRow[],
  options: TaskOptions,
): Promise<TaskPart> {
  const items = raw.map((row) => instructionItem(task, row));
  const texts = items.map(({ instruction }) => (options.chat ? instruction : instructionPrompt(instruction)));
  return {
    kind: "task",
    name: task,
    metrics: ["acc"],
    items: items.map(({ gold }) => ({ gold })),
    rows: [],
    ...(await prompted(texts, raw, options, ANSWER_TOKENS, [])),
    outcomes: (_, answers) =>
      items.map(({ gold }, i) => {
        const text = answers[i] ?? "";
        const prediction = extractedAnswer(task, text);
        return { scores: { acc: Number(prediction === gold) }, detail: { prediction, text } };
      }),
  };
}

async function problemPart(task: TaskName, raw: readonly TaskRow[], options: TaskOptions): Promise<TaskPart> {
  const items = raw.map(wordProblem);
  const texts = items.map(({ question }) => (options.chat ? question : problemPrompt(question)));
  return {
    kind: "task",
    name: task,
    metrics: ["exact_match_strict", "exact_match_flexible"],
    items: items.map(({ gold }) => ({ gold })),
    rows: [],
    ...(await prompted(texts, raw, options, RESPONSE_TOKENS, RESPONSE_ENDS)),
    outcomes: (_, answers) =>
      items.map(({ gold }, i) => {
        const text = answers[i] ?? "";
        const { strict, flexible } = extractedNumbers(text);
        return {
          scores: {
            exact_match_strict: Number(comparable(strict) === gold),
            exact_match_flexible: Number(comparable(flexible) === gold),
          },
          detail: { prediction: flexible, text },
        };
      }),
  };
}

/** Prompts as tokens; those that leave no room for an answer lose their beginning. */
async function prompted(
  texts: readonly string[],
  raw: readonly TaskRow[],
  options: TaskOptions,
  tokens: number,
  ends: readonly string[],
): Promise<Pick<TaskPart, "prompts" | "truncated">> {
  const { tokenizer, maxTokens, chat, maxNewTokens = Math.min(tokens, Math.floor(maxTokens / 2)) } = options;
  const room = maxTokens - maxNewTokens;
  if (room < 1)
    throw new QdoraError(
      "max_new_tokens",
      `${maxNewTokens} leaves no room for a prompt (limit ${maxTokens - 1}, the positions of this model less one)`,
      "lower --max-new-tokens",
      { exitCode: 2 },
    );
  let truncated = 0;
  const prompts: Prompt[] = [];
  for (const [i, text] of texts.entries()) {
    const ids = chat
      ? tokenizer.encode(await chatPrompt(tokenizer, text), { addSpecialTokens: false })
      : encodePrompt(tokenizer, text);
    if (ids.length === 0)
      throw new QdoraError(raw[i]?.where ?? "prompt", "has no tokens", "leave the item out");
    if (ids.length > room) truncated += 1;
    prompts.push({ ids: ids.slice(-room), maxNewTokens, ends });
  }
  return { prompts, truncated };
}

const chatPrompt = (tokenizer: Tokenizer, content: string): Promise<string> =>
  renderChat(tokenizer, [{ role: "user", content }], { addGenerationPrompt: true });
