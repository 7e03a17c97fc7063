/** Patterns of file names, as Python's fnmatch reads them. */
import { describe, expect, it } from "vitest";
import { globMatcher } from "../../src/hub/glob.js";

describe("globs", () => {
  it.each([
    ["*.json", "config.json", true],
    ["*.json", "folder/config.json", true],
    ["*.json", "config.jsonl", false],
    ["config.json", "folder/config.json", false],
    ["model-0000?-of-*", "model-00001-of-00002.safetensors", true],
    ["model-0000?-of-*", "model-00011-of-00012.safetensors", false],
    ["data/", "data/train/0.parquet", true],
    ["[abc].txt", "b.txt", true],
    ["[!abc].txt", "b.txt", false],
    ["[!abc].txt", "d.txt", true],
    ["[a-c].txt", "b.txt", true],
    ["[].txt", "[].txt", true],
    ["a+b(c).json", "a+b(c).json", true],
    ["a.b", "axb", false],
    ["*", "any\nthing", true],
    ["*.JSON", "config.json", false],
  ])("%j and %j: %s", (pattern, path, want) => {
    expect(globMatcher(pattern)(path)).toBe(want);
  });
  it("many stars take no time", () => {
    const began = performance.now();
    expect(globMatcher("*a".repeat(30))(`${"a".repeat(200)}b`)).toBe(false);
    expect(performance.now() - began).toBeLessThan(1000);
  });
});
