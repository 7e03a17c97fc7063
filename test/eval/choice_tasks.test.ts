/** Contexts and continuations of the eight tasks against those that lm-evaluation-harness made of the same items. */
import { describe, expect, it } from "vitest";
import { CHOICE_TASKS, choiceItem } from "../../src/eval/choice_tasks.js";
import { HARNESS, itemsOf } from "./harness.js";

const refused = (task: (typeof CHOICE_TASKS)[number], value: unknown) => () =>
  choiceItem(task, { where: "x.jsonl:7", value });

describe("choice tasks", () => {
  it.each(CHOICE_TASKS)("%s asks what the harness asks", (task) => {
    const expected = HARNESS.tasks[task].items;
    const items = itemsOf(task).map((row) => choiceItem(task, row));
    expect(items).toHaveLength(20);
    expect(items.map(({ requests }) => requests.map((r) => [r.context, r.continuation]))).toEqual(
      expected.map(({ requests }) => requests),
    );
  });
  it("counts choices in characters, not in UTF-16 units", () => {
    const row = { goal: "g", sol1: "a\u{1F600}", sol2: "éé", label: 0 };
    expect(choiceItem("piqa", { where: "", value: row }).lengths).toEqual([2, 2]);
  });
  it("reads BoolQ's own data set as SuperGLUE's", () => {
    const own = { passage: "p", question: "q", answer: true };
    const { answer: _, ...glue } = { ...own, label: 1 };
    expect(choiceItem("boolq", { where: "", value: own })).toEqual(
      choiceItem("boolq", { where: "", value: glue }),
    );
  });
  it("names file, line and field of what has another shape", () => {
    const arc = { question: "q", choices: { text: ["a", "b"], label: ["A", "B"] }, answerKey: "E" };
    expect(refused("arc_easy", arc)).toThrow(/x\.jsonl:7: answerKey is "E", which none of the choices/);
    expect(refused("arc_easy", { ...arc, choices: ["a", "b"] })).toThrow(
      /x\.jsonl:7 choices: the item is a list/,
    );
    expect(refused("arc_easy", { ...arc, choices: { text: ["a", "b"], label: ["A"] } })).toThrow(
      /label is a list instead of a list of 2 or more texts/,
    );
    expect(refused("piqa", { goal: "g", sol1: "a", label: 0 })).toThrow(
      /x\.jsonl:7: sol2 is missing instead of text/,
    );
    expect(
      refused("siqa", { context: "", question: "", answerA: "", answerB: "", answerC: "", label: "0" }),
    ).toThrow(/label is "0" instead of a number from 1 to 3/);
    expect(refused("winogrande", { sentence: "none", option1: "a", option2: "b", answer: "1" })).toThrow(
      /sentence is "none" instead of a text with a blank/,
    );
    expect(refused("boolq", [])).toThrow(/the item is a list instead of an object/);
  });
  it("says that a split has no answers", () => {
    const row = { activity_label: "a", ctx_a: "b", ctx_b: "c", endings: ["d", "e"], label: "" };
    expect(refused("hellaswag", row)).toThrow(/label is empty: the item has no answer/);
    expect(refused("piqa", { goal: "g", sol1: "a", sol2: "b", label: -1 })).toThrow(/has no answer/);
  });
});
