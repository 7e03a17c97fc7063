import { describe, expect, it } from "vitest";
import { NO_KINDS } from "../../src/data/encode_chunk.js";
import { kindWords } from "../../src/report/data_report.js";
import { histogramLines, lengthHistogram } from "../../src/report/histogram.js";
import { printable, sampleText, segmentsOf } from "../../src/report/sample_text.js";

describe("lengthHistogram", () => {
  it("doubles its bins", () => {
    expect(lengthHistogram([1, 2, 3, 4, 7, 8, 1024])).toEqual([
      { from: 1, to: 1, rows: 1 },
      { from: 2, to: 3, rows: 2 },
      { from: 4, to: 7, rows: 2 },
      { from: 8, to: 15, rows: 1 },
      ...[16, 32, 64, 128, 256, 512].map((from) => ({ from, to: 2 * from - 1, rows: 0 })),
      { from: 1024, to: 2047, rows: 1 },
    ]);
    expect(lengthHistogram([0, 0])).toEqual([{ from: 0, to: 0, rows: 2 }]);
    expect(lengthHistogram([])).toEqual([]);
  });

  it("draws them", () => {
    expect(histogramLines(lengthHistogram([1, 2, 3, ...Array<number>(2000).fill(4)]))).toEqual([
      "  1      1  #",
      "2-3      2  #",
      `4-7  2,000  ${"#".repeat(40)}`,
    ]);
  });
});

describe("samples", () => {
  const tokenizer = {
    decode: (ids: ArrayLike<number>) => Array.from(ids, (id) => String.fromCodePoint(id)).join(""),
  };
  const row = (text: string, mask: string) => ({
    inputIds: Int32Array.from(text, (c) => c.codePointAt(0) ?? 0),
    labels: Int32Array.from(text, (c, i) => (mask[i] === "x" ? (c.codePointAt(0) ?? 0) : -100)),
    truncated: false,
    scored: 0,
  });

  it("mark what is scored; the first label never is", () => {
    const segments = segmentsOf(row("abcdef", "x.xx.x"), tokenizer);
    expect(segments).toEqual([
      { text: "ab", scored: false },
      { text: "cd", scored: true },
      { text: "e", scored: false },
      { text: "f", scored: true },
    ]);
    expect(sampleText(segments, false)).toBe("ab[[cd]]e[[f]]");
    expect(sampleText(segments, true)).toContain("\u001B[32mcd\u001B[0m");
    expect(segmentsOf(row("ab", ".x"), undefined)).toEqual([
      { text: "97", scored: false },
      { text: "98", scored: true },
    ]);
  });

  it("cannot drive the terminal", () => {
    expect(printable("a\u001B[2Jb\r\n\tc\u009B\u202E")).toBe(
      String.raw`a\u{1b}[2Jb\u{d}` + "\n" + String.raw`\tc\u{9b}\u{202e}`,
    );
    expect(sampleText([{ text: "x".repeat(3000), scored: false }], false)).toHaveLength(2002);
  });
});

describe("kindWords", () => {
  it("puts the most frequent first", () => {
    expect(kindWords({ ...NO_KINDS, text: 3, chat: 1000 })).toBe("1,000 conversation, 3 text");
  });
});
