/**
 * The eight commonsense tasks of the DoRA paper by log-likelihood, with the prompts of lm-evaluation-harness 0.4 (its
 * tasks boolq, piqa, social_iqa, hellaswag, winogrande, arc_easy, arc_challenge, openbookqa), zero-shot.
 */
import { Fields, type TaskRow } from "./fields.js";
import { capitalize, length, lstrip, strip } from "./python_text.js";

/** A context and what is scored after it. */
export interface Request {
  readonly context: string;
  readonly continuation: string;
}

export interface ChoiceItem {
  /** One for each choice. */
  readonly requests: readonly Request[];
  /** Characters of each choice: what acc_norm divides by. */
  readonly lengths: readonly number[];
  /** Index of the right choice. */
  readonly gold: number;
}

export const CHOICE_TASKS = [
  "boolq",
  "piqa",
  "siqa",
  "hellaswag",
  "winogrande",
  "arc_easy",
  "arc_challenge",
  "openbookqa",
] as const;
export type ChoiceTaskName = (typeof CHOICE_TASKS)[number];

/** Tasks whose accuracy with normalised log-likelihoods is reported, as the harness does. */
export const HAS_NORM: ReadonlySet<ChoiceTaskName> = new Set([
  "piqa",
  "hellaswag",
  "arc_easy",
  "arc_challenge",
  "openbookqa",
]);

export const SHAPES: Readonly<Record<ChoiceTaskName, string>> = {
  boolq: "passage, question and label (0, 1) or answer (true, false)",
  piqa: "goal, sol1, sol2 and label (0, 1)",
  siqa: "context, question, answerA, answerB, answerC and label (1 to 3)",
  hellaswag: "activity_label, ctx_a, ctx_b, endings and label (0 to 3)",
  winogrande: "sentence with one _, option1, option2 and answer (1, 2)",
  arc_easy: "question, choices {text, label} and answerKey",
  arc_challenge: "question, choices {text, label} and answerKey",
  openbookqa: "question_stem, choices {text, label} and answerKey",
};

/** The choices follow one context, each after a space. */
const afterContext = (context: string, choices: readonly string[], gold: number): ChoiceItem => ({
  requests: choices.map((choice) => ({ context, continuation: ` ${choice}` })),
  lengths: choices.map(length),
  gold,
});

/** The choices of ARC and OpenBookQA, and the right one. */
export function labelledChoices(row: Fields): { readonly texts: readonly string[]; readonly gold: number } {
  const choices = row.object("choices", "text and label, two lists of the same length");
  const texts = choices.texts("text", 2);
  const labels = choices.texts("label", texts.length).slice(0, texts.length);
  return { texts, gold: row.indexAmong("answerKey", lstrip(row.text("answerKey")), labels) };
}

/** BoolQ as SuperGLUE has it, or as its own data set does. @returns 1 for yes */
export const boolqAnswer = (row: Fields): number =>
  row.has("answer") ? Number(row.flag("answer")) : row.index("label", 0, 2);

/** Takes WikiHow's marks in brackets out. */
function cleaned(text: string): string {
  return strip(text)
    .replaceAll(" [title]", ". ")
    .replaceAll(/\[[^\n]*?\]/g, "")
    .replaceAll("  ", " ");
}

/** The sentence with its blank filled is the context; only what follows the blank is scored. */
function winogrande(row: Fields): ChoiceItem {
  const sentence = row.text("sentence");
  const blank = sentence.indexOf("_");
  if (blank < 0) throw row.wrong("sentence", "a text with a blank, _");
  const filled = [row.text("option1"), row.text("option2")].map((o) => sentence.slice(0, blank) + o);
  const continuation = ` ${strip(sentence.slice(blank + 1))}`;
  return {
    requests: filled.map((context) => ({ context, continuation })),
    lengths: filled.map(length),
    gold: row.index("answer", 1, 2),
  };
}

/** @throws QdoraError naming the item if it has not the task's shape */
export function choiceItem(task: ChoiceTaskName, raw: TaskRow): ChoiceItem {
  const row = new Fields(raw, SHAPES[task]);
  switch (task) {
    case "boolq":
      return afterContext(
        `${row.text("passage")}\nQuestion: ${row.text("question")}?\nAnswer:`,
        ["no", "yes"],
        boolqAnswer(row),
      );
    case "piqa":
      return afterContext(
        `Question: ${row.text("goal")}\nAnswer:`,
        [row.text("sol1"), row.text("sol2")],
        row.index("label", 0, 2),
      );
    case "siqa":
      return afterContext(
        `Q: ${row.text("context")} ${row.text("question")}\nA:`,
        [row.text("answerA"), row.text("answerB"), row.text("answerC")],
        row.index("label", 1, 3),
      );
    case "hellaswag": {
      const endings = row.texts("endings", 2).map(cleaned);
      const context = `${row.text("ctx_a")} ${capitalize(row.text("ctx_b"))}`;
      const query = cleaned(`${row.text("activity_label")}: ${context}`);
      return afterContext(query, endings, row.index("label", 0, endings.length));
    }
    case "winogrande":
      return winogrande(row);
    case "arc_easy":
    case "arc_challenge": {
      const { texts, gold } = labelledChoices(row);
      return afterContext(`Question: ${row.text("question")}\nAnswer:`, texts, gold);
    }
    case "openbookqa": {
      const { texts, gold } = labelledChoices(row);
      return afterContext(row.text("question_stem"), texts, gold);
    }
    default:
      return task satisfies never;
  }
}
