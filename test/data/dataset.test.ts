import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadDataset, type Dataset, type DatasetOptions } from "../../src/data/dataset.js";
import { loadTokenizer } from "../../src/data/tokenizer.js";
import { CHATML, dataFile, tinyFolder, VOCAB } from "./tiny_tokenizer.js";

const rows = (count: number) => Array.from({ length: count }, (_, i) => ({ input_ids: [i, i, i + 1] }));
const load = (data: readonly unknown[] | string, options: Partial<DatasetOptions> = {}) =>
  loadDataset({
    data: typeof data === "string" ? data : dataFile(data),
    vocabSize: VOCAB,
    maxSeqLength: 8,
    trainOnPrompt: false,
    seed: 0,
    ...options,
  });
const ids = (list: Iterable<{ readonly inputIds: Int32Array }>): number[] =>
  Array.from(list, (row) => row.inputIds[0] ?? -1);
const unitsOf = ({ units }: Dataset) => Array.from({ length: units.length }, (_, unit) => units.rowsOf(unit));

describe("loadDataset", () => {
  it("loads, counts and makes a unit of each row", async () => {
    const dataset = await load([
      { input_ids: [1, 2, 3] },
      { input_ids: [1, 2], labels: [1, -100] },
      { input_ids: Array.from({ length: 9 }, () => 1) },
    ]);
    expect(dataset.counts).toEqual({ rows: 3, truncated: 1, unscored: 1, tokens: 13, scoredTokens: 9 });
    expect(unitsOf(dataset)).toEqual([[0], [1], [2]]);
    expect(dataset.validation).toHaveLength(0);
  });

  it("keeps the order of the file over many chats", async () => {
    const tokenizer = await loadTokenizer(tinyFolder({ chatTemplate: CHATML }));
    const chats = Array.from({ length: 150 }, (_, i) => ({
      messages: [
        { role: "user", content: "q" },
        { role: "assistant", content: `${i}` },
      ],
    }));
    const { train } = await load(chats, { tokenizer, maxSeqLength: 64 });
    const learnt = Array.from(train, (row) => tokenizer.decode(row.labels.filter((l) => l !== -100)));
    expect(learnt).toEqual(chats.map((_, i) => `${i}<|im_end|>\n`));
  });

  it("packs rows into units", async () => {
    const dataset = await load(rows(5), { packing: true });
    expect(unitsOf(dataset)).toEqual([[0, 1], [2, 3], [4]]);
    expect(dataset.train).toHaveLength(5);
  });

  it("holds out a fraction or a number of rows, the same for the same seed", async () => {
    const dataset = await load(rows(20), { valSize: 0.2 });
    expect(dataset.validation).toHaveLength(4);
    const parts = [...ids(dataset.train), ...ids(dataset.validation)].sort((a, b) => a - b);
    expect(parts).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(dataset.counts.rows).toBe(20);
    expect(ids(dataset.train)).toEqual(ids(dataset.train).toSorted((a, b) => a - b));
    const [same, other] = await Promise.all([
      load(rows(20), { valSize: 4 }),
      load(rows(20), { valSize: 4, seed: 1 }),
    ]);
    expect(ids(same.validation)).toEqual(ids(dataset.validation));
    expect(ids(other.validation)).not.toEqual(ids(dataset.validation));
    expect((await load(rows(20), { valSize: 0.001 })).validation).toHaveLength(1);
    await expect(load(rows(3), { valSize: 3 })).rejects.toMatchObject({
      message: expect.stringContaining("leaves no row to train on"),
      exitCode: 2,
    });
  });

  it("takes valid.jsonl of a folder as held-out rows", async () => {
    const folder = mkdtempSync(join(tmpdir(), "qdora-data-"));
    writeFileSync(join(folder, "train.jsonl"), '{"input_ids":[1,2]}\n');
    writeFileSync(join(folder, "valid.jsonl"), '{"input_ids":[3,4,5]}\n');
    const dataset = await load(folder);
    expect([ids(dataset.train), ids(dataset.validation)]).toEqual([[1], [3]]);
    expect(dataset.counts).toMatchObject({ rows: 2, tokens: 5 });
    await expect(load(folder, { valSize: 1 })).rejects.toThrow("holds held-out rows already");
    writeFileSync(join(folder, "valid.jsonl"), '{"input_ids":[3]}\n');
    await expect(load(folder)).rejects.toThrow("no held-out row");
  });

  it("refuses empty data, data without a scored label, and broken rows by line", async () => {
    await expect(load([])).rejects.toThrow("has no rows");
    await expect(load(dataFile("\n \n"))).rejects.toThrow("has no rows");
    await expect(load([{ input_ids: [1, 2], labels: [1, -100] }])).rejects.toThrow("no train row");
    const path = dataFile([...rows(70), { input_ids: [VOCAB] }]);
    await expect(load(path)).rejects.toThrow(
      `${path}:71: input_ids is outside the model's vocabulary, got ${VOCAB}`,
    );
  });
});
