/** What lm-evaluation-harness made of the items under test/fixtures/eval, and the items. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ChoiceTaskName } from "../../src/eval/choice_tasks.js";
import type { TaskRow } from "../../src/eval/fields.js";
import { FIXTURES, readJson } from "../fixture_files.js";

export const ITEMS = join(FIXTURES, "eval", "items");

export interface HarnessItem {
  readonly requests: readonly (readonly [context: string, continuation: string])[];
  readonly log_likelihoods: readonly number[];
  readonly acc: number;
  readonly acc_norm?: number;
}

export interface Harness {
  readonly tasks: Readonly<
    Record<
      ChoiceTaskName,
      { readonly scores: Readonly<Record<string, number>>; readonly items: readonly HarnessItem[] }
    >
  > & {
    readonly gsm8k: { readonly items: readonly { readonly prompt: string; readonly text: string }[] };
  };
  readonly answers: readonly {
    readonly text: string;
    readonly answer: string;
    readonly strict: number;
    readonly flexible: number;
  }[];
  readonly text: readonly { readonly nll: number; readonly tokens: number; readonly bytes: number }[];
}

export const HARNESS = readJson(FIXTURES, "eval", "expected.json") as Harness;

export const itemsFile = (task: string): string => join(ITEMS, `${task}.jsonl`);

export const itemsOf = (task: string): readonly TaskRow[] =>
  readFileSync(itemsFile(task), "utf8")
    .trimEnd()
    .split("\n")
    .map((line, i) => ({ where: `${task}.jsonl:${i + 1}`, value: JSON.parse(line) as unknown }));
