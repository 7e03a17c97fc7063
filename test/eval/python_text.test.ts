/** Python's ideas of text, with what Python 3.11 says. */
import { describe, expect, it } from "vitest";
import { capitalize, length, lstrip, rstrip, strip } from "../../src/eval/python_text.js";

describe("text as Python sees it", () => {
  it("strips what Python takes for white space, and nothing else", () => {
    expect(strip(" \t\n\x1c\u0085\u00a0\u3000a b\u2028\u2009 ")).toBe("a b");
    expect(strip("\ufeffa\u200b")).toBe("\ufeffa\u200b");
    expect([rstrip(" a "), lstrip(" a "), strip("  ")]).toEqual([" a", "a ", ""]);
  });
  it("counts code points", () => {
    expect([length(""), length("é\u{1F600}x"), length("e\u0301")]).toEqual([0, 3, 2]);
  });
  it("capitalises the first character and lowers all others", () => {
    expect(["", "mr. KNIGHT", "éMILE", "ßA", "1 ABC", "ΑΣ"].map(capitalize)).toEqual([
      "",
      "Mr. knight",
      "Émile",
      "Ssa",
      "1 abc",
      "Ας",
    ]);
  });
});
