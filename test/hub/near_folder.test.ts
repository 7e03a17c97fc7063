/** Which names of the form ORG/NAME are folders here that were misspelt. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nearFolder } from "../../src/hub/near_folder.js";

const before = process.cwd();
const folder = mkdtempSync(join(tmpdir(), "qdora-near-"));
beforeAll(() => {
  for (const name of ["models/tiny", "Qwen/Qwen2.5-7B"]) mkdirSync(join(folder, name), { recursive: true });
  process.chdir(folder);
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

describe("nearFolder", () => {
  it.each([
    "models/tinny",
    "models/tin",
    "models/tyni",
    "model/tiny",
    "modles/tiny",
    "models/tinx",
    "Models/Tiny",
  ])("%s is models/tiny", (name) => {
    expect(nearFolder(name)).toBe(join("models", "tiny"));
  });

  it.each(["Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-7B-Instruct", "models/typo", "acme/tiny"])(
    "%s is something else",
    (name) => {
      expect(nearFolder(name)).toBeUndefined();
    },
  );
});
