import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { DataRow } from "../../src/data/row.js";
import { findDataFiles, readRow, readRows } from "../../src/data/rows.js";
import { dataFile } from "./tiny_tokenizer.js";

async function all(path: string): Promise<DataRow[]> {
  const rows: DataRow[] = [];
  for await (const row of readRows(path)) rows.push(row);
  return rows;
}

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

describe("readRows", () => {
  it("reads lines: blank ones, CRLF, a byte-order mark, U+2028 inside, no end of line", async () => {
    const path = dataFile('\uFEFF{"text":"a"}\r\n\n  \n{"text":"b\u2028c"}\n{"text":"d"}');
    expect(await all(path)).toEqual([
      { kind: "text", text: "a", where: `${path}:1` },
      { kind: "text", text: "b\u2028c", where: `${path}:4` },
      { kind: "text", text: "d", where: `${path}:5` },
    ]);
  });

  it("reads lines longer than one chunk", async () => {
    const long = "é".repeat(700_000);
    const rows = await all(dataFile([{ text: long }, { text: "short" }]));
    expect(rows.map((row) => row.kind === "text" && row.text.length)).toEqual([700_000, 5]);
  });

  it("reads a .json list, and a .json file that holds lines", async () => {
    expect(await all(dataFile('\n [{"text":"a"},{"text":"b"}]', "x.json"))).toHaveLength(2);
    expect(await all(dataFile('{"text":"a"}\n{"text":"b"}\n', "x.json"))).toHaveLength(2);
  });

  it("names file and line of what is broken", async () => {
    const path = dataFile('{"text":"a"}\n{"text":\n');
    await expect(all(path)).rejects.toThrow(`${path}:2: is not JSON`);
    const list = dataFile('[{"text":"a"},{"txt":"b"}]', "x.json");
    await expect(all(list)).rejects.toThrow(`${list}: row 2: the row has no known shape`);
    const latin = dataFile("", "latin.jsonl");
    writeFileSync(latin, Buffer.from([0x7b, 0x7d, 0x0a, 0xe9, 0x0a]));
    await expect(all(latin)).rejects.toThrow(`${latin}:1: the row is empty`);
    writeFileSync(latin, Buffer.from([0x0a, 0xe9, 0x0a]));
    await expect(all(latin)).rejects.toThrow(`${latin}:2: is not UTF-8`);
  });
});

describe("findDataFiles", () => {
  it("takes a file, or a folder with train and valid", async () => {
    const folder = mkdtempSync(join(tmpdir(), "qdora-data-"));
    await expect(findDataFiles(folder)).rejects.toThrow("has no train.jsonl");
    writeFileSync(join(folder, "train.jsonl"), "");
    expect(await findDataFiles(folder)).toEqual({
      train: join(folder, "train.jsonl"),
      validation: undefined,
    });
    writeFileSync(join(folder, "valid.jsonl"), "");
    expect(await findDataFiles(folder)).toEqual({
      train: join(folder, "train.jsonl"),
      validation: join(folder, "valid.jsonl"),
    });
    rmSync(folder, { recursive: true });
    await expect(findDataFiles(folder)).rejects.toThrow("does not exist");
  });

  it("refuses endings that it cannot read, and things that are no file", async () => {
    await expect(findDataFiles(dataFile("", "rows.parquet"))).rejects.toThrow(
      'rows.parquet has the ending ".parquet"',
    );
    const pipe = join(mkdtempSync(join(tmpdir(), "qdora-data-")), "pipe.jsonl");
    execFileSync("mkfifo", [pipe]);
    await expect(findDataFiles(pipe)).rejects.toThrow("neither a file nor a folder");
  });
});
