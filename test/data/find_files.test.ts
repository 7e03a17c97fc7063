import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { findDataFiles } from "../../src/data/find_files.js";
import { dataFile } from "./tiny_tokenizer.js";

/** A folder with empty files of these names. */
function folderOf(...names: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), "qdora-data-"));
  for (const name of names) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), "");
  }
  return folder;
}
async function find(folder: string, split?: string) {
  const { train, validation, splits } = await findDataFiles({ path: folder, split });
  const names = (paths: readonly string[]): string[] => paths.map((path) => relative(folder, path));
  return { train: names(train), validation: names(validation), splits: [...splits.keys()].toSorted() };
}

describe("findDataFiles", () => {
  it("takes one file", async () => {
    const path = dataFile("", "rows.CSV");
    expect(await findDataFiles({ path, split: undefined })).toEqual({
      train: [path],
      validation: [],
      splits: new Map(),
    });
    await expect(findDataFiles({ path, split: "test" })).rejects.toThrow("is one file and has no split test");
  });

  it("takes the splits of a folder, the first format of each", async () => {
    const folder = folderOf(
      "train.parquet",
      "train.jsonl",
      "dev.csv",
      "test.json",
      "README.md",
      "notes.jsonl",
    );
    expect(await find(folder)).toEqual({
      train: ["train.jsonl"],
      validation: ["dev.csv"],
      splits: ["dev", "test", "train"],
    });
    expect(await find(folder, "test")).toEqual({
      train: ["test.json"],
      validation: [],
      splits: ["dev", "test", "train"],
    });
    expect((await find(folder, "validation")).train).toEqual(["dev.csv"]);
    expect((await find(folderOf("train.jsonl", "valid.jsonl", "validation.jsonl"))).validation).toEqual([
      "valid.jsonl",
    ]);
  });

  it("takes a hub data set's shards, in their order, through links", async () => {
    const folder = folderOf(
      "data/train-00001-of-00002-0a1b2c.parquet",
      "data/test_sft-00000-of-00001.parquet",
      "blob",
      "README.md",
    );
    symlinkSync(join(folder, "blob"), join(folder, "data/train-00000-of-00002-0a1b2c.parquet"));
    expect(await find(folder)).toEqual({
      train: ["data/train-00000-of-00002-0a1b2c.parquet", "data/train-00001-of-00002-0a1b2c.parquet"],
      validation: [],
      splits: ["test_sft", "train"],
    });
    expect((await find(folder, "test_sft")).train).toEqual(["data/test_sft-00000-of-00001.parquet"]);
    const converted = folderOf("train/0000.parquet", "train/0001.parquet", "test/0000.parquet");
    expect(await find(converted)).toEqual({
      train: ["train/0000.parquet", "train/0001.parquet"],
      validation: [],
      splits: ["test", "train"],
    });
  });

  it("says what is missing", async () => {
    await expect(find(folderOf("data/train-00001-of-00002.parquet"))).rejects.toThrow(
      "lacks shard 0 of 2 of train",
    );
    await expect(find(folderOf())).rejects.toThrow("has no train.jsonl");
    const test = folderOf("test.jsonl");
    await expect(find(test)).rejects.toMatchObject({
      message: expect.stringContaining("has no split train"),
      hint: `it has test: write ${test}:test`,
    });
    const parts = folderOf("main/train-00000-of-00001.parquet", "socratic/train.jsonl");
    await expect(find(parts)).rejects.toMatchObject({
      hint: `give one of its folders: ${join(parts, "main")}, ${join(parts, "socratic")}`,
    });
    await expect(find(join(parts, "none"))).rejects.toThrow("does not exist");
    await expect(find("data/rows.jsonl")).rejects.toThrow("data/rows.jsonl does not exist");
  });

  it("refuses endings that it cannot read, and things that are no file", async () => {
    await expect(find(dataFile("", "rows.xlsx"))).rejects.toThrow('rows.xlsx has the ending ".xlsx"');
    const folder = folderOf();
    execFileSync("mkfifo", [join(folder, "pipe.jsonl"), join(folder, "train.jsonl")]);
    await expect(find(join(folder, "pipe.jsonl"))).rejects.toThrow("neither a file nor a folder");
    await expect(find(folder)).rejects.toThrow("has no train.jsonl");
    symlinkSync(join(folder, "valid.jsonl"), join(folder, "valid.jsonl"));
    await expect(find(folder)).rejects.toThrow("has no train.jsonl");
  });
});
