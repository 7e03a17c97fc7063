/** `qdora data`, and training from the formats that people have: what is shown, skipped and refused. Nothing here needs a GPU. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { expectRefused, LLAMA, qdora, storyFolder, TINY, writeRows } from "./qdora.js";

const folder = storyFolder();
const PARQUET = resolve("test/fixtures/data");
const start = {
  env: { QDORA_CACHE: join(folder, "cache"), HF_HUB_OFFLINE: "1", HF_HOME: join(folder, "hub") },
};
const run = (...args: string[]) => qdora(args, start);
const dryRun = (data: string, ...more: string[]) =>
  run("finetune", "--model", TINY, "--data", data, "--output-dir", join(folder, "out"), "--dry-run", ...more);
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const QUESTIONS = 'question;answer\n"Is it; warm?";"Yes, ""very""."\nAnd now?;No.\n';

describe("qdora data", () => {
  it("shows shapes, columns and lengths without a model", async () => {
    const path = writeRows(join(folder, "rows.jsonl"), [{ text: "abc" }, { prompt: "a", completion: "b" }]);
    const { status, stdout, stderr } = await run("data", path);
    expect([status, stdout]).toEqual([0, ""]);
    expect(stderr).toContain("rows: 1 text, 1 prompt and completion");
    expect(stderr).toContain(
      "columns: text (in 1 of 2 rows), prompt (in 1 of 2 rows), completion (in 1 of 2 rows)\n",
    );
    expect(stderr).toMatch(/2-3 +2 +#{40}/);
    expect(stderr).toContain("give --model FOLDER to see tokens");
  });

  it("shows with a model what is scored, cut and left out", async () => {
    const rows = Array.from({ length: 200 }, (_, i) => ({ prompt: `Number ${i}:`, completion: " good" }));
    const path = writeRows(join(folder, "scored.jsonl"), [
      ...rows,
      { prompt: "long ".repeat(40), completion: "x", note: "cut" },
      "{",
    ]);
    const { status, stderr } = await run(
      "data",
      path,
      "--model",
      TINY,
      "--max-seq-length",
      "24",
      "--samples",
      "1",
    );
    expect(status).toBe(0);
    expect(stderr).toContain("1 cut at 24 tokens (max_seq_length)");
    expect(stderr).toContain("1 without a scored label");
    expect(stderr).toContain("  columns: prompt, completion, note (in 1 of 201 rows)\n");
    expect(stderr).toContain(`1 broken row (${path}:202: is not JSON`);
    expect(stderr).toMatch(/row 1: \[\[…\]\] is scored\nNumber 0:\[\[ good<\|/);
    expect(stderr).not.toContain("row 2:");
  });

  it("says all of it in JSON, and the same from the cache", async () => {
    const path = file("answers.csv", QUESTIONS);
    const args = ["data", path, "--model", TINY, "--columns", "prompt=question,completion=answer", "--json"];
    const first = await run(...args);
    expect(first).toMatchObject({ status: 0, stderr: "" });
    const report = JSON.parse(first.stdout) as Record<string, unknown>;
    expect(report).toMatchObject({
      rows: 2,
      truncated: 0,
      unscored: 0,
      broken: 0,
      lengths: { unit: "tokens" },
    });
    expect(report["sources"]).toMatchObject([
      {
        source: path,
        rows: 2,
        columns: ["question", "answer"],
        column_rows: { question: 2, answer: 2 },
        cached: false,
      },
    ]);
    const [sample = []] = report["samples"] as { text: string; scored: boolean }[][];
    expect(sample.map(({ scored }) => scored)).toEqual([false, true]);
    expect(sample[0]?.text).toBe("Is it; warm?");
    expect(sample[1]?.text).toMatch(/^Yes, "very"\.<\|/);
    const again = JSON.parse((await run(...args)).stdout) as { sources: { cached: boolean }[] };
    expect(again.sources[0]?.cached).toBe(true);
    expect(again).toEqual({ ...report, sources: [{ ...(report["sources"] as object[])[0], cached: true }] });
    expect(
      readdirSync(join(folder, "cache", "tokens")).every((name) => /^[0-9a-f]{64}\.tokens$/.test(name)),
    ).toBe(true);
  });

  it("knows splits, slices and several sources", async () => {
    const set = join(folder, "set");
    mkdirSync(join(set, "data"), { recursive: true });
    const ids = (from: number, count: number) =>
      Array.from({ length: count }, (_, i) => ({ input_ids: [from + i, 5, 6] }));
    writeRows(join(set, "data/train-00000-of-00002.jsonl"), ids(10, 4));
    writeRows(join(set, "data/train-00001-of-00002.jsonl"), ids(20, 4));
    writeRows(join(set, "data/validation-00000-of-00001.jsonl"), ids(30, 2));
    const json = async (...sources: string[]): Promise<Record<string, unknown>> =>
      JSON.parse(
        (await run("data", ...sources, "--model", LLAMA, "--json", "--samples", "9")).stdout,
      ) as Record<string, unknown>;
    expect(await json(set)).toMatchObject({
      rows: 10,
      sources: [{ rows: 8, validation_rows: 2, splits: ["train", "validation"] }],
    });
    const sliced = await json(`${set}:train[3:6]`, join(PARQUET, "ids_gzip.parquet"));
    expect(sliced).toMatchObject({ rows: 6, sources: [{ rows: 3 }, { rows: 3 }] });
    const firsts = (sliced["samples"] as { text: string }[][]).map(([segment]) => segment?.text);
    expect(firsts).toEqual(["13", "20", "21", "1", "1 7", "1"]);
  });

  it("escapes what could drive the terminal", async () => {
    const path = writeRows(join(folder, "escape.jsonl"), [{ text: "a\u001B[2Jb" }]);
    for (const more of [[], ["--model", TINY]]) {
      const { stderr } = await run("data", path, ...more);
      expect(stderr).not.toContain("\u001B[2J");
      expect(stderr).toMatch(/a(\[\[)?\\+u(\{1b\}|001b)\[2Jb/i);
    }
  });

  it("tokenises large data in threads, in the order of the file", async () => {
    const rows = Array.from({ length: 60_000 }, (_, i) => ({
      prompt: `${i}:`,
      completion: ` row of some length, number ${i}`,
    }));
    const path = writeRows(join(folder, "large.jsonl"), [...rows, '{"text":1}']);
    const { status, stdout } = await run("data", path, "--model", TINY, "--json", "--samples", "60000");
    expect(status).toBe(0);
    const { samples, broken_rows: broken } = JSON.parse(stdout) as {
      samples: { text: string }[][];
      broken_rows: string[];
    };
    expect(samples.map(([prompt]) => prompt?.text)).toEqual(rows.map(({ prompt }) => prompt));
    expect(broken).toEqual([`${path}:60001: text is a number instead of text`]);
    const ids = writeRows(join(folder, "no_tokenizer.jsonl"), rows);
    expectRefused(await run("data", ids, "--model", LLAMA), 1, /tokenizer\.json: does not exist/);
  });
});

describe("finetune", () => {
  it("plans a run from CSV, Parquet and a list of both", async () => {
    const csv = await dryRun(file("train.csv", QUESTIONS), "--columns", "prompt=question,completion=answer");
    expect([csv.status, csv.stderr]).toEqual([
      0,
      expect.stringMatching(/^data: 2 rows, \d+ tokens, \d+ scored\n/),
    ]);
    const parquet = await dryRun(join(PARQUET, "chats_snappy.parquet"));
    expect([parquet.status, parquet.stderr]).toEqual([0, expect.stringMatching(/^data: 8 rows/)]);
    const config = file(
      "mix.yaml",
      `data: [${join(folder, "rows.csv")}, "${join(PARQUET, "chats_snappy.parquet")}"]\ndata_weights: [2, 0.5]\n`,
    );
    file("rows.csv", "text\nhello\nyou\nthere\n");
    const mixed = await run(
      "finetune",
      "--config",
      config,
      "--model",
      TINY,
      "--output-dir",
      join(folder, "out"),
      "--dry-run",
    );
    expect([mixed.status, mixed.stderr]).toEqual([0, expect.stringMatching(/^data: 10 rows/)]);
  });

  it("names the rows that it leaves out", async () => {
    const rows = Array.from({ length: 120 }, () => ({ text: "hello" }));
    const path = writeRows(join(folder, "few.jsonl"), [...rows, { txt: 1 }]);
    const { status, stderr } = await dryRun(path);
    expect(status).toBe(0);
    expect(stderr).toContain(`skipped: 1 broken row (${path}:121: the row has no known shape`);
  });
});

describe("SIGINT", () => {
  it("stops the tokenising, and leaves nothing of it", async () => {
    const text = "some words of a row, ".repeat(20);
    const path = writeRows(
      join(folder, "long.jsonl"),
      Array.from({ length: 60_000 }, (_, i) => ({ text: `${i} ${text}` })),
    );
    const cache = join(folder, "stopped");
    const args = [
      "finetune",
      "--model",
      TINY,
      "--data",
      path,
      "--output-dir",
      join(folder, "out"),
      "--device",
      "software",
    ];
    const ended = qdora(args, {
      env: { QDORA_CACHE: cache },
      onStart: (child) => {
        const waiting = setInterval(() => {
          if (!existsSync(join(cache, "tokens")) || readdirSync(join(cache, "tokens")).length === 0) return;
          clearInterval(waiting);
          child.kill("SIGINT");
        }, 50);
        child.on("exit", () => clearInterval(waiting));
      },
    });
    const { status, stderr } = await ended;
    expect([status, stderr]).toEqual([130, expect.stringContaining("stopped before the first step")]);
    expect(readdirSync(join(cache, "tokens"))).toEqual([]);
  });
});

describe("refuses", () => {
  it.concurrent.each([
    ["nothing", () => run("data"), 2, /usage: missing required argument 'file'/],
    [
      "more than 1 % broken",
      () => dryRun(writeRows(join(folder, "bad.jsonl"), [{ text: "a" }, "x", "y"])),
      1,
      /bad\.jsonl:2: is not JSON .*; 2 of 3 rows are broken \(limit 1 %\), also 3/,
    ],
    [
      "a column that is not there",
      () => dryRun(file("c.csv", QUESTIONS), "--columns", "text=body"),
      1,
      /c\.csv:2: has no column "body"; its columns are "question", "answer"/,
    ],
    [
      "a field that is none",
      () => dryRun(file("d.csv", QUESTIONS), "--columns", "promt=question"),
      2,
      /columns: "promt" is no field of a row/,
    ],
    [
      "columns that are none",
      () => dryRun(file("e.csv", QUESTIONS), "--columns", "question"),
      2,
      /--columns: got "question", expected fields/,
    ],
    [
      "a weight of 0",
      () => dryRun(file("f.csv", QUESTIONS), "--data-weights", "0"),
      2,
      /--data-weights: got "0", expected a list of numbers above 0/,
    ],
    [
      "too many weights",
      () => dryRun(file("g.csv", QUESTIONS), "--data-weights", "1,1"),
      2,
      /data_weights: has 2 numbers for 1 sources/,
    ],
    [
      "a slice that is none",
      () => dryRun(`${folder}:train[5:2]`),
      2,
      /data: \[5:2\] of .* is not a slice of rows/,
    ],
    [
      "an empty slice",
      () => dryRun(`${file("h.jsonl", '{"text":"a"}\n')}[5:]`),
      1,
      /data: .*h\.jsonl\[5:\] has no rows\nhint: the slice begins after the last row/,
    ],
    [
      "a hub name",
      () => dryRun("openai/gsm8k:train[:10]"),
      1,
      /openai\/gsm8k: revision "main" is not in the cache/,
    ],
    [
      "damaged Parquet",
      () => dryRun(file("i.parquet", "PAR1PAR1")),
      1,
      /i\.parquet: cannot be read as Parquet/,
    ],
    [
      "a FIFO in a folder's place",
      () => {
        execFileSync("mkfifo", [join(folder, "pipe.csv")]);
        return dryRun(join(folder, "pipe.csv"));
      },
      1,
      /neither a file nor a folder/,
    ],
    [
      "data without a model that fits",
      () => run("data", file("j.jsonl", '{"text":"a"}\n'), "--model", join(folder, "none")),
      1,
      /config\.json/,
    ],
  ] as const)("%s", async (_, body, exit, says) => {
    expectRefused(await body(), exit, says);
  });
});
