import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseStrictJson, readJsonFile } from "../../src/formats/json.js";
import { expectRefusal, put, temporaryFolder } from "./made_files.js";

describe("parseStrictJson", () => {
  const parse = (text: string, numbers?: "any") => parseStrictJson(text, "f: header", numbers);

  it("reads like JSON.parse what it does not refuse", () => {
    for (const text of [
      '{"a":[1,-2,{"b":0,"a":{}}],"c":"x\\"}{[:,\\\\","d\\\\":null,"":true}',
      ' [ [ ] , { "a" : 9007199254740991 } , "1.5" , "" ] ',
      '{"__proto__":1,"ä\\u0000":[{"a":1},{"a":1}]}',
      "7",
    ]) {
      expect(parse(text)).toEqual(JSON.parse(text));
    }
    expect(Object.keys(parse('{"__proto__":1}') as object)).toEqual(["__proto__"]);
  });

  it.each([
    ['{"a":1,"b":2,"a":3}', /the key "a" twice/],
    ['{"a":{"x":1,"\\u0078":2}}', /the key "x" twice/],
    ['[{"a":1},{"b":{"c":1},"b":{"c":1}}]', /the key "b" twice/],
    ['{"a":9007199254740992}', /9007199254740992, which is beyond 2\^53/],
    ["[-9007199254740993]", /beyond 2\^53/],
    ['{"a":1.0}', /1\.0 where an integer is needed/],
    ["[1e3]", /1e3 where/],
    ["[1E+2]", /1E\+2 where/],
    ["[-0]", /-0 where/],
    ["", /is empty/],
    ['{"a":1,}', /is not valid JSON/],
    ["{'a':1}", /is not valid JSON/],
    ["[NaN]", /is not valid JSON/],
    ["{} x", /is not valid JSON/],
    ["\uFEFF{}", /is not valid JSON/],
  ])("refuses %s", async (text, fact) => {
    await expectRefusal(
      Promise.resolve().then(() => parse(text)),
      "f: header",
      fact,
    );
  });

  it("takes other numbers where they are wanted, but keeps the rest strict", () => {
    expect(parse('{"a":1.5,"b":1e3}', "any")).toEqual({ a: 1.5, b: 1000 });
    expect(() => parse('{"a":1,"a":1}', "any")).toThrow(/twice/);
    expect(() => parse("[90071992547409930]", "any")).toThrow(/beyond/);
  });

  it("is no slower than linear in deep and long texts", () => {
    const deep = `${"[".repeat(5000)}${"]".repeat(5000)}`;
    expect(() => parse(deep)).not.toThrow();
    const long = "x".repeat(5_000_000);
    expect(parse(JSON.stringify({ [long]: long }))).toEqual({ [long]: long });
  });
});

describe("readJsonFile", () => {
  it("reads a file, and says what is wrong with another", async () => {
    const folder = temporaryFolder();
    expect(await readJsonFile(put(folder, "a.json", '{"a":1.5}'), 9)).toEqual({ a: 1.5 });
    await expectRefusal(
      readJsonFile(join(folder, "a.json"), 8),
      "a.json",
      /is too large, got 9 bytes \(limit 8\)/,
    );
    await expectRefusal(readJsonFile(join(folder, "b.json"), 8), "b.json", /does not exist/);
    await expectRefusal(readJsonFile(put(folder, "c.json", "{a"), 8), "c.json", /is not valid JSON/);
    await expectRefusal(readJsonFile(put(folder, "d.json", ""), 8), "d.json", /is empty/);
    await expectRefusal(
      readJsonFile(put(folder, "e.json", Uint8Array.of(0x22, 0xff, 0x22)), 8),
      "e.json",
      /is not UTF-8/,
    );
    await expectRefusal(readJsonFile(folder, 8), folder, /is a folder/);
    execFileSync("mkfifo", [join(folder, "fifo.json")]);
    await expectRefusal(readJsonFile(join(folder, "fifo.json"), 8), "fifo.json", /is not a regular file/);
  });
});
