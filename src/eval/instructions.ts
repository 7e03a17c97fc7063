/**
 * The same tasks by generation, as the DoRA paper evaluates them: instructions, prompt and answer extraction of
 * LLM-Adapters (Hu et al. 2023), for models that were fine-tuned on its commonsense data.
 */
import { boolqAnswer, labelledChoices, SHAPES, type ChoiceTaskName } from "./choice_tasks.js";
import { Fields, type TaskRow } from "./fields.js";

export interface InstructionItem {
  readonly instruction: string;
  /** The answer in the words of the instruction: "true", "solution1", "answer3". */
  readonly gold: string;
}

/** New tokens that an answer may have. */
export const ANSWER_TOKENS = 32;

/** The lines of the paper's prompt are indented by this much. */
const INDENT = " ".repeat(16);

export const instructionPrompt = (instruction: string): string =>
  "Below is an instruction that describes a task. Write a response that appropriately completes the request. \n\n" +
  `${INDENT}### Instruction:\n${INDENT}${instruction}\n\n${INDENT}### Response:\n${INDENT}`;

const WORDS: Readonly<Record<ChoiceTaskName, string>> = {
  boolq: "true|false",
  piqa: "solution1|solution2",
  siqa: "answer1|answer2|answer3|answer4|answer5",
  hellaswag: "ending1|ending2|ending3|ending4",
  winogrande: "option1|option2",
  arc_easy: "answer1|answer2|answer3|answer4|answer5",
  arc_challenge: "answer1|answer2|answer3|answer4|answer5",
  openbookqa: "answer1|answer2|answer3|answer4|answer5",
};

/** The first of the task's words in a response; "" if there is none. */
export const extractedAnswer = (task: ChoiceTaskName, response: string): string =>
  new RegExp(WORDS[task]).exec(response.split("### Response:", 1)[0] ?? "")?.[0] ?? "";

/** "Answer1: a Answer2: b", and "answer1/answer2" for the line about the format. */
function numbered(word: string, texts: readonly string[], separator = " "): readonly [string, string] {
  const title = word.charAt(0).toUpperCase() + word.slice(1);
  const listed = texts.map((text, i) => `${title}${i + 1}: ${text}`).join(separator);
  return [listed, texts.map((_, i) => `${word}${i + 1}`).join("/")];
}

function question(text: string, choices: readonly string[], gold: number): InstructionItem {
  const [listed, format] = numbered("answer", choices);
  return {
    instruction: `Please choose the correct answer to the question: ${text}\n\n${listed}\n\nAnswer format: ${format}`,
    gold: `answer${gold + 1}`,
  };
}

/** An item of a Hub data set, or one that is an instruction already (LLM-Adapters' own files). */
export function instructionItem(task: ChoiceTaskName, raw: TaskRow): InstructionItem {
  const row = new Fields(raw, `${SHAPES[task]}; or instruction and answer`);
  if (row.has("instruction")) return { instruction: row.text("instruction"), gold: row.text("answer") };
  switch (task) {
    case "boolq": {
      const asked = row.text("question");
      return {
        instruction: `Please answer the following question with true or false, question: ${asked}?\n\nAnswer format: true/false`,
        gold: boolqAnswer(row) === 1 ? "true" : "false",
      };
    }
    case "piqa": {
      const [listed, format] = numbered("solution", [row.text("sol1"), row.text("sol2")], "\n\n");
      return {
        instruction: `Please choose the correct solution to the question: ${row.text("goal")}\n\n${listed}\n\nAnswer format: ${format}`,
        gold: `solution${row.index("label", 0, 2) + 1}`,
      };
    }
    case "siqa":
      return question(
        `${row.text("context")} ${row.text("question")}`,
        [row.text("answerA"), row.text("answerB"), row.text("answerC")],
        row.index("label", 1, 3),
      );
    case "hellaswag": {
      const endings = row.texts("endings", 2);
      const [listed, format] = numbered("ending", endings);
      const start = `${row.text("activity_label")}: ${row.text("ctx")}`;
      return {
        instruction: `Please choose the correct ending to complete the given sentence: ${start}\n\n${listed}\n\nAnswer format: ${format}`,
        gold: `ending${row.index("label", 0, endings.length) + 1}`,
      };
    }
    case "winogrande": {
      const [listed, format] = numbered("option", [row.text("option1"), row.text("option2")]);
      return {
        instruction: `Please choose the correct answer to fill in the blank to complete the given sentence: ${row.text("sentence")}\n\n${listed} Answer format: ${format}`,
        gold: `option${row.index("answer", 1, 2) + 1}`,
      };
    }
    case "arc_easy":
    case "arc_challenge":
    case "openbookqa": {
      const { texts, gold } = labelledChoices(row);
      return question(row.text(task === "openbookqa" ? "question_stem" : "question"), texts, gold);
    }
    default:
      return task satisfies never;
  }
}
