import { describe, expect, it } from "vitest";
import { readRow } from "../../src/data/rows.js";

describe("readRow", () => {
  const read = (row: unknown): unknown => {
    const { where: _, ...rest } = readRow(row, "f:1");
    return rest;
  };
  const chat = [
    { role: "user", content: "q" },
    { role: "assistant", content: "a" },
  ];

  it("knows each shape", () => {
    expect(read({ text: "t", id: 4 })).toEqual({ kind: "text", text: "t" });
    expect(read({ prompt: "p", completion: "c" })).toEqual({
      kind: "completion",
      prompt: "p",
      completion: "c",
    });
    expect(read({ prompt: [chat[0]], completion: [chat[1]] })).toEqual({
      kind: "chat",
      messages: chat,
      scoredFrom: 1,
      tools: undefined,
    });
    expect(read({ messages: chat, text: "rendered" })).toEqual({
      kind: "chat",
      messages: chat,
      scoredFrom: 0,
      tools: undefined,
    });
    const shared = [
      { from: "human", value: "q" },
      { from: "gpt", value: "a" },
    ];
    expect(read({ conversations: shared, system: "s" })).toEqual({
      kind: "chat",
      messages: [{ role: "system", content: "s" }, ...chat],
      scoredFrom: 0,
      tools: undefined,
    });
    expect(read({ instruction: "i", input: null, output: "o" })).toEqual({
      kind: "instruction",
      instruction: "i",
      input: "",
      output: "o",
      system: "",
    });
    expect(read({ input_ids: [1, 2], labels: [-100, 2] })).toEqual({
      kind: "ids",
      inputIds: [1, 2],
      labels: [-100, 2],
    });
    expect(read({ input_ids: [1] })).toEqual({ kind: "ids", inputIds: [1], labels: undefined });
  });

  it("keeps other keys of a turn, joins text parts, takes turns that only call tools", () => {
    const parts = [
      { type: "text", text: "a" },
      { type: "text", text: "b" },
    ];
    const messages = [
      { role: "user", content: parts, name: "N" },
      { role: "assistant", tool_calls: [1] },
    ];
    expect(read({ messages, tools: [{ name: "t" }] })).toMatchObject({
      messages: [
        { role: "user", content: "ab", name: "N" },
        { role: "assistant", content: null, tool_calls: [1] },
      ],
      tools: [{ name: "t" }],
    });
  });

  it.each([
    [[1], "f:1: the row is a list instead of an object"],
    [{}, "f:1: the row is empty"],
    [{ question: 1, answer: 2 }, 'f:1: the row has no known shape; its keys are "question", "answer"'],
    [{ text: 5 }, "f:1: text is a number instead of text"],
    [{ prompt: "p" }, "f:1: completion is missing instead of text"],
    [{ prompt: "p", completion: chat }, "f:1: only one of prompt and completion is a list of messages"],
    [{ instruction: "i" }, "f:1: output is missing instead of text"],
    [{ instruction: "i", output: "o", history: [["a", "b"]] }, "f:1: has a `history` beside `instruction`"],
    [{ messages: [] }, "f:1: messages is empty"],
    [{ messages: "hi" }, "f:1: messages is a string instead of a list"],
    [{ messages: [5] }, "f:1: messages[0] is a number instead of an object"],
    [{ messages: [{ content: "a" }] }, "f:1: messages[0].role is missing"],
    [{ messages: [{ role: "user" }] }, "f:1: messages[0].content is missing instead of text"],
    [
      { messages: [{ role: "user", content: [{ type: "image" }] }] },
      'f:1: messages[0].content has a part of type "image"',
    ],
    [{ conversations: [{ from: "constructor", value: "a" }] }, 'f:1: conversations[0].from is "constructor"'],
    [{ input_ids: [1, 2.5] }, "f:1: input_ids[1] is 2.5"],
    [{ input_ids: "1" }, "f:1: input_ids is a string instead of a list"],
    [{ input_ids: [1], labels: [null] }, "f:1: labels[0] is null"],
    [{ messages: chat, tools: "x" }, "f:1: tools is a string instead of a list"],
  ])("refuses %j", (row, message) => {
    expect(() => readRow(row, "f:1")).toThrow(message);
  });
});
