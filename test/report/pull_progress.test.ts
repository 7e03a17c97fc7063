/** The lines that a download shows: rate and time left from the last seconds, by a clock of the test's. */
import { describe, expect, it } from "vitest";
import { pullPrinter } from "../../src/report/pull_progress.js";

/** Ten seconds of a download at 2 MB/s that had 100 MB of 200 MB already. */
function show(isTTY: boolean): readonly string[] {
  const written: string[] = [];
  let now = 0;
  const print = pullPrinter({ isTTY, columns: 80, write: (text) => written.push(text) }, () => now);
  print({ type: "listed", repo: "a/b", commit: "0123456789abcdef", files: 2, bytes: 3e8, bytesToFetch: 2e8 });
  for (let step = 0; step <= 100; step++) {
    now = step * 100;
    const fetchedBytes = step * 2e5;
    print({ type: "progress", bytes: 1e8 + fetchedBytes, totalBytes: 2e8, fetchedBytes });
  }
  print({ type: "file", path: "model.safetensors", bytes: 2e8 });
  return written;
}

describe("progress of a download", () => {
  it("elsewhere: a line now and then; what was there before is no speed", () => {
    expect(show(false)).toEqual([
      "a/b at 0123456789ab: 2 files, 300 MB, 200 MB to download\n",
      "120 MB of 200 MB (60 %)  2.00 MB/s  left 40s\n",
      "model.safetensors  200 MB\n",
    ]);
  });
  it("on a terminal: one line that is rewritten, at most five times a second", () => {
    const [first, ...lines] = show(true);
    expect(first).toMatch(/^a\/b at/);
    expect(lines).toHaveLength(51);
    for (const line of lines.slice(0, -1)) {
      expect(line.startsWith("\r\u001b[2K1")).toBe(true);
      expect(line).toMatch(/\d+ MB of 200 MB[^\n]*$/);
    }
    expect(lines.at(-2)).toContain("2.00 MB/s  left 40s");
    expect(lines.at(-1)).toBe("\r\u001b[2Kmodel.safetensors  200 MB\n");
  });
  it("all in the cache", () => {
    const written: string[] = [];
    const print = pullPrinter({ write: (text) => written.push(text) });
    print({ type: "listed", repo: "a/b", commit: "0123456789abcdef", files: 2, bytes: 3e8, bytesToFetch: 0 });
    expect(written).toEqual(["a/b at 0123456789ab: 2 files, 300 MB, in the cache\n"]);
  });
});
