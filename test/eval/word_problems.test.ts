/** Extraction and exact match against what the harness's gsm8k says about the same texts. */
import { describe, expect, it } from "vitest";
import { comparable, extractedNumbers, problemPrompt, wordProblem } from "../../src/eval/word_problems.js";
import { HARNESS, itemsOf } from "./harness.js";

const problem = (answer: string) => wordProblem({ where: "x.jsonl:1", value: { question: "q", answer } });

describe("word problems", () => {
  it.each(HARNESS.answers)(
    "scores $text against $answer as the harness does",
    ({ text, answer, strict, flexible }) => {
      const { gold } = problem(answer);
      const found = extractedNumbers(text);
      expect([
        Number(comparable(found.strict) === gold),
        Number(comparable(found.flexible) === gold),
      ]).toEqual([strict, flexible]);
    },
  );
  it("asks what the harness asks", () => {
    expect(itemsOf("gsm8k").map((row) => problemPrompt(wordProblem(row).question))).toEqual(
      HARNESS.tasks.gsm8k.items.map(({ prompt }) => prompt),
    );
  });
  it("takes the last number of an answer without ####, as Orca-Math has them", () => {
    expect(problem("He has 3 + 4 = 7 apples.").gold).toBe("7");
    expect(problem("It costs $1,250.50.").gold).toBe("1250.50");
    expect(() => problem("none")).toThrow(/x\.jsonl:1: answer is "none" instead of a text with a number/);
  });
});
