/** Thousands of broken rows and files, the same ones each time: no crash, no hang, and what is accepted round-trips. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ColumnMap } from "../../src/data/columns.js";
import { shapeOf } from "../../src/data/encode_chunk.js";
import { encodeRow } from "../../src/data/encode.js";
import { decodeRows, ParquetDecoder } from "../../src/data/parquet.js";
import { valueOf, type RawRow } from "../../src/data/raw_row.js";
import { readFileRows } from "../../src/data/read_file.js";
import { readRow } from "../../src/data/rows.js";
import { readRecord, TokenRecords, tokenBytes } from "../../src/data/token_records.js";
import { loadTokenizer, type Tokenizer } from "../../src/data/tokenizer.js";
import { QdoraError } from "../../src/formats/error.js";
import { RandomSource } from "../../src/program/random.js";
import { damage, mutateBytes } from "../mutants.js";
import { tinyFolder, VOCAB } from "./tiny_tokenizer.js";

const SEEDS: readonly object[] = [
  { text: "hello é 👍" },
  { prompt: "hello", completion: " hello" },
  {
    messages: [
      { role: "user", content: "q" },
      { role: "assistant", content: [{ type: "text", text: "a" }] },
    ],
    tools: [{}],
  },
  {
    conversations: [
      { from: "human", value: "q" },
      { from: "gpt", value: "a" },
    ],
    system: "s",
  },
  { instruction: "i", input: null, output: "o", history: [] },
  { input_ids: [1, 2, 3], labels: [-100, 2, 7] },
  { input_ids: [5, 6] },
];
const PIECES = [
  "{",
  "}",
  "[",
  "]",
  '"',
  "\\",
  ",",
  ":",
  "null",
  "-100",
  "1e999",
  "-0",
  "9007199254740993",
  "[".repeat(70),
  "\u0000",
  '"__proto__":{"text":"x"},',
  '"messages":',
  '"input_ids":[',
  "\\ud800",
  "\uFEFF",
  "\n",
  "\r\n",
  ";",
  "\t",
  '""',
  "é",
].map((piece) => Buffer.from(piece));

const folder = mkdtempSync(join(tmpdir(), "qdora-fuzz-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Rows of a file of these bytes, or the error that names the file. */
async function readAll(bytes: Buffer, name: string): Promise<RawRow[] | QdoraError> {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  const rows: RawRow[] = [];
  try {
    for await (const row of readFileRows(path, {})) rows.push(row);
  } catch (error) {
    expect(error).toBeInstanceOf(QdoraError);
    expect((error as QdoraError).message).toContain(path);
    return error as QdoraError;
  }
  return rows;
}

describe("rows", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(tinyFolder());
  });

  it("survives 6,000 broken lines; accepted ones round-trip", async () => {
    const random = new RandomSource(1, 1);
    const seeds = SEEDS.map((row) => Buffer.from(JSON.stringify(row)));
    const lines = Array.from({ length: 6000 }, (_, i) =>
      mutateBytes(seeds[i % seeds.length] ?? Buffer.alloc(0), random, PIECES),
    );
    const rows = await readAll(
      Buffer.concat(lines.flatMap((line) => [line, Buffer.from("\n")])),
      "rows.jsonl",
    );
    if (rows instanceof QdoraError) throw rows;
    let [accepted, refused] = [0, 0];
    const records = new TokenRecords(VOCAB);
    const encoded = [];
    for (const raw of rows) {
      const row = shapeOf(raw, `f${raw.at}`, {});
      if ("fault" in row) {
        refused += 1;
        expect(row.fault.fact).not.toBe("");
        expect(row.fault.fact.length).toBeLessThan(600);
        continue;
      }
      accepted += 1;
      const found = valueOf(raw);
      const again = readRow(
        JSON.parse(JSON.stringify("value" in found ? found.value : undefined)),
        row.where,
      );
      expect(again).toEqual(row);
      if (row.kind === "chat" || row.kind === "instruction") continue;
      try {
        const tokens = await encodeRow(
          row,
          { tokenizer, renderer: undefined },
          { maxSeqLength: 8, trainOnPrompt: false, vocabSize: VOCAB },
        );
        records.add(tokens);
        encoded.push(tokens);
      } catch (error) {
        expect(error).toBeInstanceOf(QdoraError);
      }
    }
    expect(accepted).toBeGreaterThan(300);
    expect(refused).toBeGreaterThan(2000);
    const chunk = records.chunk();
    let at = 0;
    for (const [i, tokens] of encoded.entries()) {
      const bytes = chunk.recordBytes[i] ?? 0;
      const row = { length: chunk.lengths[i] ?? 0, scored: chunk.scored[i] ?? 0, flags: chunk.flags[i] ?? 0 };
      expect(readRecord(chunk.records.subarray(at, at + bytes), tokenBytes(VOCAB), row)).toEqual(tokens);
      at += bytes;
    }
  });

  it("cuts a list of JSON as JSON.parse does", async () => {
    const random = new RandomSource(2, 1);
    const seed = Buffer.from(JSON.stringify(SEEDS));
    let whole = 0;
    for (let i = 0; i < 800; i++) {
      const bytes = mutateBytes(seed, random, PIECES);
      let wanted: unknown;
      try {
        wanted = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
      } catch {
        wanted = undefined;
      }
      // A file that does not begin with "[" is read as lines.
      const rows = await readAll(bytes, "rows.json");
      if (!Array.isArray(wanted)) continue;
      if (rows instanceof QdoraError) throw rows;
      whole += 1;
      const values = rows
        .map((row) => valueOf(row))
        .map((found) => ("value" in found ? found.value : found.fault));
      expect(values).toEqual(wanted);
    }
    expect(whole).toBeGreaterThan(30);
  });

  it("reads 1,500 broken CSV files, or says where they are broken", async () => {
    const random = new RandomSource(3, 1);
    const seed = Buffer.from('prompt,completion\n"a, ""b""","x\ny"\nplain,é\n"",\n"last","one"\n');
    let read = 0;
    for (let i = 0; i < 1500; i++) {
      const rows = await readAll(mutateBytes(seed, random, PIECES), "rows.csv");
      if (rows instanceof QdoraError) continue;
      const values = rows.flatMap((row) => ("value" in row ? [row.value as Record<string, string>] : []));
      const names = Object.keys(values[0] ?? {});
      if (names.length < 2) continue;
      read += 1;
      // Written again with every field in quotes, it is the same.
      const quote = (text: string): string => `"${text.replaceAll('"', '""')}"`;
      const lines = [names, ...values.map((row) => names.map((name) => row[name] ?? ""))];
      const text = lines.map((fields) => fields.map(quote).join(",")).join("\n");
      const again = await readAll(Buffer.from(`${text}\n`), "rows.csv");
      if (again instanceof QdoraError) throw again;
      expect(again.map((row) => ("value" in row ? row.value : row))).toEqual(values);
    }
    expect(read).toBeGreaterThan(400);
  });

  it.each(["chats_snappy", "answers_zstd", "ids_gzip"])(
    "reads 600 damaged Parquet files of %s, or refuses them",
    async (name) => {
      const random = new RandomSource(4, 1);
      const columns: ColumnMap = name === "answers_zstd" ? { prompt: "question", completion: "answer" } : {};
      const seed = readFileSync(join(import.meta.dirname, `../fixtures/data/${name}.parquet`));
      const path = join(folder, "rows.parquet");
      const decoder = new ParquetDecoder({ timeoutMs: 1000, heapMegabytes: 256 });
      let [read, refused] = [0, 0];
      try {
        for (let i = 0; i < 600; i++) {
          writeFileSync(path, damage(seed, random));
          let rows = 0;
          try {
            for await (const { at } of decodeRows(decoder, path, columns)) rows += at === "" ? 0 : 1;
            expect(rows).toBeLessThan(10);
            read += 1;
          } catch (error) {
            expect(error).toBeInstanceOf(QdoraError);
            expect((error as QdoraError).message).toContain(path);
            refused += 1;
          }
        }
      } finally {
        decoder.close();
      }
      expect(read).toBeGreaterThan(50);
      expect(refused).toBeGreaterThan(100);
      expect(read + refused).toBe(600);
    },
  );
});
