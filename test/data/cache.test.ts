import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { openDataset, type DatasetOptions } from "../../src/data/dataset.js";
import { loadTokenizer } from "../../src/data/tokenizer.js";
import { CHATML, dataFile, tinyFolder, VOCAB } from "./tiny_tokenizer.js";

let cache = "";
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), "qdora-cache-"));
  vi.stubEnv("QDORA_CACHE", cache);
});
const files = (): string[] => (existsSync(join(cache, "tokens")) ? readdirSync(join(cache, "tokens")) : []);
const ROWS = [{ text: "hello" }, { text: "hello hello" }];
const OPTIONS = { vocabSize: VOCAB, maxSeqLength: 16, trainOnPrompt: false, seed: 0 };

async function open(options: Partial<DatasetOptions> & Pick<DatasetOptions, "data">) {
  const tokenizer = options.tokenizer ?? (await loadTokenizer(tinyFolder()));
  const dataset = await openDataset({ ...OPTIONS, tokenizer, ...options });
  return { rows: [...dataset.train], isCached: dataset.sources.map(({ train }) => train.isCached), dataset };
}

describe("the token cache", () => {
  it("is used for the same bytes, wherever they lie", async () => {
    const first = await open({ data: dataFile(ROWS) });
    const again = await open({ data: dataFile(ROWS, "other.jsonl") });
    expect([first.isCached, again.isCached]).toEqual([[false], [true]]);
    expect(again.rows).toEqual(first.rows);
    expect(again.dataset.fingerprint).toBe(first.dataset.fingerprint);
    expect(files()).toEqual([expect.stringMatching(/^[0-9a-f]{64}\.tokens$/)]);
  });

  it("is not used when data, settings, tokenizer or template are others", async () => {
    const data = dataFile(ROWS);
    await open({ data });
    const others: (Partial<DatasetOptions> & Pick<DatasetOptions, "data">)[] = [
      { data: dataFile([...ROWS, { text: "a" }]) },
      { data, maxSeqLength: 2 },
      { data, trainOnPrompt: true },
      { data, vocabSize: VOCAB + 1 },
      { data, columns: { text: "text" } },
      { data: `${data}[:1]` },
      { data, tokenizer: await loadTokenizer(tinyFolder({ addBos: true })) },
      { data, tokenizer: await loadTokenizer(tinyFolder({ chatTemplate: CHATML })) },
    ];
    for (const other of others) expect((await open(other)).isCached).toEqual([false]);
    expect(files()).toHaveLength(1 + others.length);
    for (const same of [
      { data, seed: 5 },
      { data, packing: true },
      { data, valSize: 1 },
    ])
      expect((await open(same)).isCached).toEqual([true]);
  });

  it("keeps nothing half-written of a process that ends while it tokenises", () => {
    const module = JSON.stringify(pathToFileURL(resolve("dist/data/token_cache.js")).href);
    const script = `import { makeTokens } from ${module};
      import { readdirSync } from "node:fs";
      await makeTokens("k".repeat(64), 2, async () => {
        console.log(readdirSync(process.env.QDORA_CACHE + "/tokens").length);
        process.exit(3);
      });`;
    const { status, stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
      encoding: "utf8",
    });
    expect([status, stdout.trim(), files()]).toEqual([3, "1", []]);
  });

  it("is made again where it is damaged", async () => {
    const data = dataFile(ROWS);
    const { rows } = await open({ data });
    const path = join(cache, "tokens", files()[0] ?? "");
    const bytes = readFileSync(path);
    bytes[0] = (bytes[0] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    const again = await open({ data });
    expect([again.isCached, again.rows]).toEqual([[false], rows]);
    expect((await open({ data })).isCached).toEqual([true]);
  });

  it("leaves nothing of a part that failed, and nothing of dead runs", async () => {
    await expect(open({ data: dataFile([...ROWS, { txt: 1 }]) })).rejects.toThrow("no known shape");
    expect(files()).toEqual([]);
    const dead = join(cache, "tokens", "dead.tmp");
    const young = join(cache, "tokens", "young.tmp");
    writeFileSync(dead, "x");
    writeFileSync(young, "x");
    utimesSync(dead, 1, 1);
    await open({ data: dataFile(ROWS) });
    expect([existsSync(dead), existsSync(young)]).toEqual([false, true]);
  });

  it("keeps the files that were used last", async () => {
    await open({ data: dataFile(ROWS) });
    const [kept = ""] = files();
    for (let i = 0; i < 1030; i++) {
      const path = join(cache, "tokens", `${i}.tokens`);
      writeFileSync(path, "");
      utimesSync(path, 1000 + i, 1000 + i);
    }
    await open({ data: dataFile([{ text: "a" }]) });
    expect(files()).toHaveLength(1024);
    expect(files()).toContain(kept);
    expect(files()).not.toContain("0.tokens");
    expect(files()).toContain("1029.tokens");
  });

  it("does without a cache folder that cannot be made", async () => {
    writeFileSync(join(cache, "file"), "");
    vi.stubEnv("QDORA_CACHE", join(cache, "file"));
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith("qdora-tokens-lone-"));
    expect((await open({ data: dataFile(ROWS) })).rows).toHaveLength(2);
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith("qdora-tokens-lone-"))).toEqual(before);
  });

  it("does not keep the date that a template writes", async () => {
    vi.useFakeTimers({ toFake: ["Date"], now: new Date("2026-01-05T12:00:00") });
    try {
      const chatTemplate = `${CHATML}{{ strftime_now('%Y') }}`;
      const tokenizer = await loadTokenizer(tinyFolder({ chatTemplate }));
      const data = dataFile(ROWS);
      await open({ data, tokenizer });
      expect((await open({ data, tokenizer })).isCached).toEqual([true]);
      vi.setSystemTime(new Date("2026-01-06T12:00:00"));
      expect((await open({ data, tokenizer })).isCached).toEqual([false]);
    } finally {
      vi.useRealTimers();
    }
  });
});
