/** The instructions of LLM-Adapters' data, as its published files and logs have them, and its answer extraction. */
import { describe, expect, it } from "vitest";
import { extractedAnswer, instructionItem, instructionPrompt } from "../../src/eval/instructions.js";

const of = (task: Parameters<typeof instructionItem>[0], value: unknown) =>
  instructionItem(task, { where: "x.jsonl:1", value });

describe("instructions", () => {
  it("writes each task's instruction", () => {
    expect(
      of("winogrande", {
        sentence: "The jeans fit worse than the shirt because I had tried the _ on at the store.",
        option1: "jeans",
        option2: "shirt",
        answer: "2",
      }),
    ).toEqual({
      instruction:
        "Please choose the correct answer to fill in the blank to complete the given sentence: The jeans fit worse than the shirt because I had tried the _ on at the store.\n\nOption1: jeans Option2: shirt Answer format: option1/option2",
      gold: "option2",
    });
    expect(of("boolq", { question: "is water wet", passage: "p", label: 1 })).toEqual({
      instruction:
        "Please answer the following question with true or false, question: is water wet?\n\nAnswer format: true/false",
      gold: "true",
    });
    expect(of("piqa", { goal: "Retain study notes in brain.", sol1: "a.", sol2: "b.", label: 1 })).toEqual({
      instruction:
        "Please choose the correct solution to the question: Retain study notes in brain.\n\nSolution1: a.\n\nSolution2: b.\n\nAnswer format: solution1/solution2",
      gold: "solution2",
    });
    expect(
      of("siqa", { context: "C.", question: "Q?", answerA: "a", answerB: "b", answerC: "c", label: "1" }),
    ).toEqual({
      instruction:
        "Please choose the correct answer to the question: C. Q?\n\nAnswer1: a Answer2: b Answer3: c\n\nAnswer format: answer1/answer2/answer3",
      gold: "answer1",
    });
    expect(
      of("arc_challenge", {
        question: "Which?",
        choices: { text: ["a", "b", "c", "d"], label: ["1", "2", "3", "4"] },
        answerKey: "3",
      }),
    ).toEqual({
      instruction:
        "Please choose the correct answer to the question: Which?\n\nAnswer1: a Answer2: b Answer3: c Answer4: d\n\nAnswer format: answer1/answer2/answer3/answer4",
      gold: "answer3",
    });
    expect(
      of("hellaswag", {
        activity_label: "Travel",
        ctx: "[header] How",
        endings: ["[step] a.", "b."],
        label: "0",
      }),
    ).toEqual({
      instruction:
        "Please choose the correct ending to complete the given sentence: Travel: [header] How\n\nEnding1: [step] a. Ending2: b.\n\nAnswer format: ending1/ending2",
      gold: "ending1",
    });
  });
  it("takes instructions as they are", () => {
    expect(
      of("openbookqa", {
        instruction: "I",
        input: "",
        output: "the correct answer is answer4",
        answer: "answer4",
      }),
    ).toEqual({
      instruction: "I",
      gold: "answer4",
    });
  });
  it("indents the prompt as the paper's code does", () => {
    const indent = " ".repeat(16);
    expect(instructionPrompt("I")).toBe(
      `Below is an instruction that describes a task. Write a response that appropriately completes the request. \n\n${indent}### Instruction:\n${indent}I\n\n${indent}### Response:\n${indent}`,
    );
  });
  it("takes the first of the task's words as the answer", () => {
    expect(extractedAnswer("arc_easy", " the correct answer is answer3, not answer1")).toBe("answer3");
    expect(extractedAnswer("boolq", "the correct answer is false")).toBe("false");
    expect(extractedAnswer("boolq", "False")).toBe("");
    expect(extractedAnswer("piqa", "answer1")).toBe("");
    expect(extractedAnswer("piqa", "none ### Response: solution1")).toBe("");
  });
});
