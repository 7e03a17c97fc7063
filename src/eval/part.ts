/** A part of an evaluation: one task, or a text. What it wants from the model, and what it makes of the answers. */
import type { EncodedRow } from "../data/row.js";
import type { Prompt } from "./responder.js";
import type { Weighted } from "./statistics.js";

/** What one model made of one item. */
export interface Outcome {
  /** 0 or 1 by metric. */
  readonly scores: Readonly<Record<string, number>>;
  /** For the file of items: predictions, log-likelihoods, texts. */
  readonly detail: Readonly<Record<string, unknown>>;
}

export interface TaskPart {
  readonly kind: "task";
  readonly name: string;
  readonly metrics: readonly string[];
  /** For the file of items: what does not depend on the model. */
  readonly items: readonly Readonly<Record<string, unknown>>[];
  /** Rows to score. */
  readonly rows: readonly EncodedRow[];
  /** Prompts to answer. */
  readonly prompts: readonly Prompt[];
  /** Rows and prompts that lost their beginning. */
  readonly truncated: number;
  /** @param losses of the rows; @param answers to the prompts */
  outcomes(losses: readonly number[], answers: readonly string[]): readonly Outcome[];
}

export interface TextPart {
  readonly kind: "text";
  readonly name: string;
  readonly rows: readonly EncodedRow[];
  /** Bytes of each row's scored text; undefined without a tokenizer. */
  readonly bytes: readonly number[] | undefined;
  readonly truncated: number;
  /** Rows that were broken and left out. */
  readonly broken: number;
}

export type Part = TaskPart | TextPart;

/** Losses spread over tokens, or over bytes. */
export const spread = (losses: readonly number[], weights: readonly number[]): readonly Weighted[] =>
  losses.map((sum, i) => ({ sum, weight: weights[i] ?? 0 }));
