/**
 * Maths word problems by generation: prompt, answer extraction and exact match of lm-evaluation-harness's gsm8k. `strict`
 * wants the number after "####" as GSM8K writes it, `flexible` takes the last number of the response.
 */
import { Fields, type TaskRow } from "./fields.js";

export interface WordProblem {
  readonly question: string;
  /** The number, as the metric compares it. */
  readonly gold: string;
}

export const PROBLEM_TASKS = ["gsm8k", "orca_math"] as const;
export type ProblemTaskName = (typeof PROBLEM_TASKS)[number];

/** A response ends before the first of these. */
export const RESPONSE_ENDS: readonly string[] = ["Question:", "</s>", "<|im_end|>"];
/** New tokens that a response may have. */
export const RESPONSE_TOKENS = 256;

export const problemPrompt = (question: string): string => `Question: ${question}\nAnswer:`;

const NUMBER = /-?[$0-9.,]{2,}|-?[0-9]+/g;

/** The number that a response gives by each rule; "[invalid]" if it gives none. */
export function extractedNumbers(response: string): { readonly strict: string; readonly flexible: string } {
  return {
    strict: /#### (-?[0-9.,]+)/.exec(response)?.[1] ?? "[invalid]",
    flexible: response.match(NUMBER)?.at(-1) ?? "[invalid]",
  };
}

/** What the metric leaves out before it compares: commas, dollars, everything up to "#### ", a stop at the end. */
export function comparable(text: string): string {
  return text
    .replaceAll(",", "")
    .replaceAll("$", "")
    .replace(/^[\s\S]*#### /, "")
    .replace(/\.(?=\n?$)/, "")
    .toLowerCase();
}

/** `question` and `answer`; an answer without "####" (Orca-Math) ends with its number. @throws QdoraError naming the item */
export function wordProblem(raw: TaskRow): WordProblem {
  const row = new Fields(raw, "question and answer, with the number after #### or at its end");
  const answer = row.text("answer");
  const gold = answer.includes("#### ") ? answer : (answer.match(NUMBER)?.at(-1) ?? "");
  if (gold === "") throw row.wrong("answer", "a text with a number");
  return { question: row.text("question"), gold: comparable(gold) };
}
