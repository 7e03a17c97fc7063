import { describe, expect, it } from "vitest";
import { parseSources, sourceName } from "../../src/data/sources.js";
import { dataFile } from "./tiny_tokenizer.js";

const END = 2 ** 32;

describe("parseSources", () => {
  it.each([
    ["a.jsonl", { path: "a.jsonl", split: undefined, from: 0, to: END }],
    ["a.jsonl[:1000]", { path: "a.jsonl", split: undefined, from: 0, to: 1000 }],
    ["dir:train[10:20]", { path: "dir", split: "train", from: 10, to: 20 }],
    ["ORG/NAME:test[5:]", { path: "ORG/NAME", split: "test", from: 5, to: END }],
    ["dir:test_sft", { path: "dir", split: "test_sft", from: 0, to: END }],
    [
      String.raw`C:\data\rows.jsonl`,
      { path: String.raw`C:\data\rows.jsonl`, split: undefined, from: 0, to: END },
    ],
  ])("reads %s", (text, source) => {
    expect(parseSources(text)).toEqual([{ ...source, weight: 1 }]);
    expect(sourceName({ ...source, weight: 1 })).toBe(text);
  });

  it("reads several, with weights", () => {
    const list = parseSources("a.jsonl, dir:train[:5],b.csv", [1, 0.5, 2]);
    expect(list.map(({ path, weight }) => [path, weight])).toEqual([
      ["a.jsonl", 1],
      ["dir", 0.5],
      ["b.csv", 2],
    ]);
    expect(parseSources(["a,b.jsonl"])).toHaveLength(1);
    expect(() => parseSources("a,b", [1])).toThrow("data_weights: has 1 numbers for 2 sources");
    expect(() => parseSources("a,,b")).toThrow("data: names an empty source");
  });

  it("takes a file that is really called so", () => {
    const path = dataFile("", "a,b[1:2].jsonl");
    expect(parseSources(path)).toEqual([{ path, split: undefined, from: 0, to: END, weight: 1 }]);
  });

  it.each(["a.jsonl[5:5]", "a.jsonl[-5:]", "a.jsonl[:10%]", "a.jsonl[3]", "a.jsonl[1:2:3]"])(
    "refuses %s",
    (text) => {
      expect(() => parseSources(text)).toThrow("is not a slice of rows");
    },
  );
});
