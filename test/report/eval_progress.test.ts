/** Progress of an evaluation: rewritten on a terminal, a line every ten seconds elsewhere. */
import { describe, expect, it } from "vitest";
import { evaluationPrinter } from "../../src/report/eval_progress.js";

function printed(isTTY: boolean): string {
  let [text, at] = ["", 0];
  const { listen, end } = evaluationPrinter(
    { isTTY, columns: 80, write: (more) => (text += more) },
    () => at,
  );
  const progress = (which: "model" | "base", done: number): void =>
    listen({ type: "progress", which, unit: "tokens", done, total: 4000 });
  listen({ type: "gpu", name: "Card", isSoftware: false });
  listen({ type: "loading", bytes: 5e6 });
  for (const [ms, done] of [
    [0, 0],
    [5000, 1000],
    [10_000, 2000],
    [20_000, 4000],
  ] as const) {
    at = ms;
    progress("model", done);
  }
  at = 21_000;
  progress("base", 0);
  listen({ type: "gpu", name: "Card", isSoftware: false });
  at = 31_000;
  progress("base", 1000);
  end();
  return text;
}

describe("evaluation progress", () => {
  it("writes a line now and then, and names the GPU once", () => {
    expect(printed(false).split("\n")).toEqual([
      "gpu: Card",
      "2,000 of 4,000 tokens  200/s  left 10s",
      "4,000 of 4,000 tokens  200/s  left 0s",
      "base: 1,000 of 4,000 tokens  100/s  left 30s",
      "",
    ]);
  });
  it("rewrites one line on a terminal and clears it at the end", () => {
    const text = printed(true);
    expect(text).toContain("\r\u001b[2Kloading and quantising: 5.00 MB");
    expect(text).toContain("\r\u001b[2K1,000 of 4,000 tokens  200/s  left 15s");
    expect(text.endsWith("\r\u001b[2K")).toBe(true);
    expect(text.match(/\n/g)).toHaveLength(1);
  });
});
