import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { ColumnMap } from "../../src/data/columns.js";
import { nestingDepth } from "../../src/data/json_depth.js";
import { valueOf } from "../../src/data/raw_row.js";
import { readFileRows } from "../../src/data/read_file.js";
import { dataFile } from "./tiny_tokenizer.js";

/** Each row as [place, value] or [place, what is wrong]. */
async function all(path: string, columns: ColumnMap = {}): Promise<(readonly [string, unknown])[]> {
  const rows: (readonly [string, unknown])[] = [];
  for await (const row of readFileRows(path, columns)) {
    const found = valueOf(row);
    rows.push([row.at, "fault" in found ? `! ${found.fault.fact}` : found.value]);
  }
  return rows;
}
const bytesFile = (bytes: Buffer, name: string): string => {
  const path = dataFile("", name);
  writeFileSync(path, bytes);
  return path;
};
const FIXTURES = join(import.meta.dirname, "../fixtures/data");

describe("JSON lines", () => {
  it("takes blank lines, CRLF, a byte-order mark, U+2028 inside, no end of line", async () => {
    expect(await all(dataFile('\uFEFF{"text":"a"}\r\n\n  \n{"text":"b\u2028c"}\n{"text":"d"}'))).toEqual([
      [":1", { text: "a" }],
      [":4", { text: "b\u2028c" }],
      [":5", { text: "d" }],
    ]);
  });

  it("takes lines longer than one piece of the file", async () => {
    const long = "é".repeat(700_000);
    expect(await all(dataFile([{ text: long }, { text: "short" }]))).toEqual([
      [":1", { text: long }],
      [":2", { text: "short" }],
    ]);
  });

  it("names the line of what is broken, and goes on", async () => {
    const text = Buffer.concat([Buffer.from('{"text":\n'), Buffer.from([0xe9, 0x0a]), Buffer.from("[1]\n")]);
    const rows = await all(bytesFile(text, "rows.jsonl"));
    expect(rows).toEqual([
      [":1", expect.stringContaining("! is not JSON")],
      [":2", "! is not UTF-8 text"],
      [":3", [1]],
    ]);
  });

  it("refuses a line without end", async () => {
    const path = bytesFile(Buffer.alloc(65 * 1024 * 1024, 0x20), "rows.jsonl");
    await expect(all(path)).rejects.toThrow(`${path}:1: the line is longer than 67108864 bytes`);
  });

  it("refuses a nesting bomb before it is parsed", async () => {
    const deep = "[".repeat(100_000) + "]".repeat(100_000);
    expect(await all(dataFile(`{"messages":${deep}}`))).toEqual([
      [":1", "! is nested deeper than 64 levels"],
    ]);
    expect(nestingDepth('{"a":"[[[[\\"[[[","b":[{}]}', 10)).toBe(3);
    expect(nestingDepth(String.raw`["\\",[[1]]]`, 10)).toBe(3);
    expect(nestingDepth('["', 10)).toBe(1);
  });
});

describe("JSON lists", () => {
  it("streams the elements, whatever they are", async () => {
    const rows = [{ text: 'a"],[{' }, { text: "\\" }, [1, [2]], "s,]", 5, null, {}];
    const path = dataFile(`\uFEFF \n[${rows.map((row) => JSON.stringify(row)).join(" ,\n")} ]\n `, "x.json");
    expect(await all(path)).toEqual(rows.map((row, i) => [`: row ${i + 1}`, row]));
    expect(await all(dataFile(" [ ] ", "x.json"))).toEqual([]);
  });

  it("takes a list longer than one piece of the file", async () => {
    const rows = Array.from({ length: 3000 }, (_, i) => ({ text: `é${i}`.repeat(50) }));
    expect((await all(dataFile(JSON.stringify(rows), "x.json"))).map(([, row]) => row)).toEqual(rows);
  });

  it("takes a .json file that holds lines", async () => {
    expect(await all(dataFile('{"text":"a"}\n{"text":"b"}\n', "x.json"))).toHaveLength(2);
  });

  it.each([
    ['[{"a":1}', "is not a whole JSON list: it ends after row 0"],
    ['[{"a":1},', "is not a whole JSON list: it ends after row 1"],
    ["[1,]", 'is not a JSON list: unexpected "]" after row 1'],
    ["[,1]", 'is not a JSON list: unexpected "," after row 0'],
    ["[1] 2", 'is not a JSON list: unexpected "2" after row 1'],
    ["[1]]", 'is not a JSON list: unexpected "]" after row 1'],
  ])("refuses %s", async (text, message) => {
    await expect(all(dataFile(text, "x.json"))).rejects.toThrow(message);
  });

  it("goes on after an element that is no JSON", async () => {
    expect(await all(dataFile('[{"a":nul},{"a":1}]', "x.json"))).toEqual([
      [": row 1", expect.stringContaining("! is not JSON")],
      [": row 2", { a: 1 }],
    ]);
  });
});

describe("CSV", () => {
  it("takes quotes, line ends and delimiters inside fields, CRLF, a byte-order mark, blank lines", async () => {
    const text = '\uFEFFprompt,completion\r\n"a, ""b""","x\r\ny"\r\n\r\nplain,with "quote" inside\r\n,""';
    expect(await all(dataFile(text, "x.csv"))).toEqual([
      [":2", { prompt: 'a, "b"', completion: "x\r\ny" }],
      [":5", { prompt: "plain", completion: 'with "quote" inside' }],
      [":6", { prompt: "", completion: "" }],
    ]);
  });

  it("finds the delimiter", async () => {
    const row = { prompt: "a,b", completion: "c" };
    expect(await all(dataFile("prompt;completion\na,b;c\n", "x.csv"))).toEqual([[":2", row]]);
    expect(await all(dataFile("prompt\tcompletion\na,b\tc\n", "x.csv"))).toEqual([[":2", row]]);
    expect(await all(dataFile('text\n"one; two"\n', "x.tsv"))).toEqual([[":2", { text: "one; two" }]]);
  });

  it("reads lists as JSON", async () => {
    const text = 'input_ids,labels,note\n"[1, 2]",,"[3]"\n"1 2",,\n';
    expect(await all(dataFile(text, "x.csv"))).toEqual([
      [":2", { input_ids: [1, 2], note: "[3]" }],
      [":3", "! input_ids is not a list in JSON"],
    ]);
    const mapped = await all(dataFile('chat,text\n"[{""role"":""user""}]",[1]\n', "x.csv"), {
      messages: "chat",
    });
    expect(mapped).toEqual([[":2", { chat: [{ role: "user" }], text: "[1]" }]]);
  });

  it("names the line of what is broken, and goes on", async () => {
    const head = Buffer.from('text,b\n"a"x,1\none\n');
    const path = bytesFile(
      Buffer.concat([head, Buffer.from([0xe9, 0x2c, 0x31, 0x0a]), Buffer.from("a,b\n")]),
      "x.csv",
    );
    expect(await all(path)).toEqual([
      [":2", "! has text after a closing quote"],
      [":3", "! has 1 fields where the first line names 2 columns"],
      [":4", "! is not UTF-8 text"],
      [":5", { text: "a", b: "b" }],
    ]);
  });

  it("refuses a quote without end at the line where it opens, and columns of one name", async () => {
    const open = dataFile('text\na\n"b\nc\nd\n', "x.csv");
    await expect(all(open)).rejects.toThrow(`${open}:3: opens a quote that is never closed`);
    const twice = dataFile("text,text\na,b\n", "x.csv");
    await expect(all(twice)).rejects.toThrow(`${twice}:1: names the column "text" twice`);
  });

  it("reads a long quoted field in time that grows with its length only", async () => {
    const lines = 'a ""quoted"" line\n'.repeat(200_000);
    const [row] = await all(dataFile(`text\n"${lines}"\n`, "x.csv"));
    expect(row).toEqual([":2", { text: lines.replaceAll('""', '"') }]);
  }, 20_000);
});

describe("Parquet", () => {
  it("reads nested lists over several row groups", async () => {
    const rows = await all(join(FIXTURES, "chats_snappy.parquet"));
    expect(rows).toHaveLength(8);
    expect(rows[7]).toEqual([
      ": row 8",
      {
        messages: [
          { role: "user", content: "Question 7, é?" },
          { role: "assistant", content: "Answer 7." },
        ],
      },
    ]);
    expect(rows[5]?.[1]).toMatchObject({
      messages: [{ role: "system" }, { role: "user" }, { role: "assistant" }],
    });
  });

  it("reads dictionaries, nulls and version 2 pages, the named columns only", async () => {
    const path = join(FIXTURES, "answers_zstd.parquet");
    const rows = await all(path, { prompt: "question", completion: "answer" });
    expect(rows.map(([, row]) => row)).toEqual(
      ["one", "two", null, "one", "two", "three"].map((answer, i) => ({
        question: `Which ${i % 2}?`,
        answer,
      })),
    );
    await expect(all(path)).rejects.toThrow(
      'none of its columns is a field of a row: "question", "answer", "score"',
    );
    await expect(all(path, { text: "body" })).rejects.toThrow(
      'has no column "body"; its columns are "question"',
    );
  });

  it("reads 64-bit integers as numbers", async () => {
    expect((await all(join(FIXTURES, "ids_gzip.parquet")))[0]?.[1]).toEqual({
      input_ids: [1, 5, 9, 2],
      labels: [-100, 5, 9, 2],
    });
  });

  it("names a file that is none", async () => {
    const path = dataFile("PAR1 is not enough", "x.parquet");
    await expect(all(path)).rejects.toThrow(`${path}: cannot be read as Parquet`);
    await expect(all(dataFile("", "x.parquet"))).rejects.toThrow("cannot be read as Parquet");
  });
});

describe("what is no file", () => {
  it("does not wait for a FIFO, nor read a folder", async () => {
    const folder = mkdtempSync(join(tmpdir(), "qdora-data-"));
    execFileSync("mkfifo", [join(folder, "pipe.jsonl")]);
    await expect(all(join(folder, "pipe.jsonl"))).rejects.toThrow("is not a regular file");
    await expect(all(folder)).rejects.toThrow("is a folder, not a file");
  });
});
