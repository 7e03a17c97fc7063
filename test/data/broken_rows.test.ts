import { describe, expect, it } from "vitest";
import { checkBroken } from "../../src/data/broken_rows.js";
import { openDataset } from "../../src/data/dataset.js";
import { surveyData } from "../../src/data/survey.js";
import { loadTokenizer } from "../../src/data/tokenizer.js";
import { brokenWords } from "../../src/report/data_report.js";
import { dataFile, tinyFolder, VOCAB } from "./tiny_tokenizer.js";

/** Sound rows, with broken ones at these lines. */
function rows(count: number, broken: Readonly<Record<number, string>>): string {
  const lines = Array.from({ length: count }, (_, i) => broken[i + 1] ?? '{"text":"hello"}');
  return dataFile(`${lines.join("\n")}\n`);
}
const BROKEN = { 3: "{", 90: '{"txt":1}', 150: '{"text":5}' };

async function open(data: string) {
  const tokenizer = await loadTokenizer(tinyFolder());
  return openDataset({ data, tokenizer, vocabSize: VOCAB, maxSeqLength: 8, trainOnPrompt: false, seed: 0 });
}

describe("broken rows", () => {
  it("are left out and named, up to 1 %", async () => {
    const path = rows(300, BROKEN);
    const { broken, counts } = await open(path);
    expect(counts.rows).toBe(297);
    expect(broken.count).toBe(3);
    expect(broken.named).toEqual([
      expect.stringContaining(`${path}:3: is not JSON`),
      `${path}:90: the row has no known shape; its keys are "txt"`,
      `${path}:150: text is a number instead of text`,
    ]);
    const survey = await surveyData(path, {}, 0);
    expect(survey.sources[0]?.broken).toEqual(broken);
  });

  it("stop the run past 1 %, naming the first ones", async () => {
    const path = rows(299, BROKEN);
    const message = /:3: is not JSON \(.*\); 3 of 299 rows are broken \(limit 1 %\), also 90, 150$/;
    await expect(open(path)).rejects.toThrow(message);
    await expect(surveyData(path, {}, 0)).rejects.toThrow(message);
  });

  it("are as many from the cache, under the file's own name", async () => {
    const [first, second] = [rows(300, BROKEN), rows(300, BROKEN)];
    const fresh = await open(first);
    const again = await open(second);
    expect(again.broken.count).toBe(3);
    expect(again.broken.named).toEqual(fresh.broken.named.map((name) => name.replace(first, second)));
  });

  it("count over all files of a part, each with its own lines", () => {
    const row = (file: number, at: string) => ({ file, at, fact: "is bad", hint: "mend it" });
    expect(checkBroken(["a", "b"], [row(1, ":7")], 1, 100).named).toEqual(["b:7: is bad"]);
    expect(() => checkBroken(["a", "b"], [row(1, ": row 7")], 1, 99)).toThrow("b: row 7: is bad");
    const many = Array.from({ length: 50 }, (_, i) => row(0, `:${i}`));
    expect(() => checkBroken(["a"], many, 80, 90)).toThrow(
      "a:0: is bad; 80 of 90 rows are broken (limit 1 %), also 1, 2, 3, 4, 5, …",
    );
  });

  it("do not hide what is wrong with all rows", async () => {
    const chat = dataFile([{ messages: [{ role: "user", content: "q" }] }]);
    await expect(open(chat)).rejects.toThrow("chat template: the model's tokenizer has none");
    const looping = await loadTokenizer(
      tinyFolder({ chatTemplate: "{% for i in range(1000000000) %}{% endfor %}" }),
    );
    const started = performance.now();
    await expect(
      openDataset({
        data: chat,
        tokenizer: looping,
        vocabSize: VOCAB,
        maxSeqLength: 8,
        trainOnPrompt: false,
        seed: 0,
      }),
    ).rejects.toThrow(/chat template: .*(it ran for longer than|memory)/);
    expect(performance.now() - started).toBeLessThan(60_000);
  });
});

describe("brokenWords", () => {
  it("names the first three", () => {
    expect(brokenWords({ count: 1, named: ["a:1: x"] })).toBe("1 broken row (a:1: x)");
    expect(brokenWords({ count: 5, named: ["a", "b", "c", "d"] })).toBe(
      "5 broken rows (a; b; c; and 2 more)",
    );
  });
});
