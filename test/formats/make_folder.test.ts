import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { makeFolder, removeEmpty } from "../../src/formats/make_folder.js";

const root = mkdtempSync(join(tmpdir(), "qdora-folders-"));
afterAll(() => rmSync(root, { recursive: true }));

describe("makeFolder", () => {
  it("makes what is missing and says where it began; removeEmpty takes that back", () => {
    const folder = join(root, "a", "b", "c");
    expect(makeFolder(folder)).toBe(join(root, "a"));
    expect(statSync(folder).isDirectory()).toBe(true);
    expect(makeFolder(folder)).toBeUndefined();
    mkdirSync(join(root, "a", "other"));
    removeEmpty(folder, join(root, "a"));
    expect([existsSync(join(root, "a", "b")), existsSync(join(root, "a", "other"))]).toEqual([false, true]);
  });

  it("names the folder that cannot be made, and why", () => {
    const file = join(root, "file");
    writeFileSync(file, "");
    expect(() => makeFolder(join(file, "x"))).toThrow(`${file}: is a file`);
    expect(() => makeFolder(file)).toThrow(`${file}: is a file`);
    const link = join(root, "link");
    symlinkSync(join(root, "nowhere"), link);
    expect(() => makeFolder(link)).toThrow(`${link}: is a link that leads nowhere`);
  });

  it("leaves none of them where one cannot be made", () => {
    const first = join(root, "first");
    expect(() => makeFolder(join(first, "second", "n".repeat(300), "x"))).toThrow("cannot be written");
    expect(existsSync(first)).toBe(false);
  });

  it.runIf(existsSync("/proc/self"))("ends where the system has no folders to make", () => {
    expect(() => makeFolder("/proc/x/y")).toThrow("/proc/x: cannot be made there");
  });
});
