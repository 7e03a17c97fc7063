import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openFile, readBytes, writeAtomically, writeFileAtomic } from "../../src/formats/files.js";
import { expectRefusal, put, temporaryFolder } from "./made_files.js";

describe("writeFileAtomic", () => {
  it("writes text and bytes, and leaves nothing beside them", async () => {
    const folder = temporaryFolder();
    await writeFileAtomic(join(folder, "a"), "old");
    await writeFileAtomic(join(folder, "a"), "grüße");
    await writeFileAtomic(join(folder, "b"), Uint8Array.of(0, 255));
    expect(readFileSync(join(folder, "a"), "utf8")).toBe("grüße");
    expect([...readFileSync(join(folder, "b"))]).toEqual([0, 255]);
    expect(readdirSync(folder)).toEqual(["a", "b"]);
  });

  it("leaves the old file and no temporary one when writing fails", async () => {
    const folder = temporaryFolder();
    const path = put(folder, "a", "old");
    const failing = writeAtomically(path, async (handle) => {
      await handle.writeFile("half");
      throw new Error("stopped");
    });
    await expect(failing).rejects.toThrow("stopped");
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  it("names the file when it cannot be written", async () => {
    const folder = temporaryFolder();
    const missing = join(folder, "no", "a");
    await expectRefusal(writeFileAtomic(missing, ""), missing, /its folder does not exist/);
    mkdirSync(join(folder, "taken"));
    await expectRefusal(writeFileAtomic(join(folder, "taken"), "x"), "taken", /cannot be written/);
    expect(readdirSync(folder)).toEqual(["taken"]);
  });
});

describe("openFile", () => {
  it("refuses what is no regular file, a FIFO without waiting for its writer", async () => {
    const folder = temporaryFolder();
    const fifo = join(folder, "fifo");
    execFileSync("mkfifo", [fifo]);
    await expectRefusal(openFile(fifo), fifo, /is not a regular file/);
    await expectRefusal(openFile(folder), folder, /is a folder/);
    await expectRefusal(openFile("/dev/null"), "/dev/null", /is not a regular file/);
    await expectRefusal(openFile(join(folder, "none")), "none", /does not exist/);
    symlinkSync(join(folder, "nowhere"), join(folder, "dangling"));
    await expectRefusal(openFile(join(folder, "dangling")), "dangling", /does not exist/);
  });

  it("follows a link to a regular file", async () => {
    const folder = temporaryFolder();
    symlinkSync(put(folder, "blob", "abc"), join(folder, "link"));
    const file = await openFile(join(folder, "link"));
    expect(file.size).toBe(3);
    expect(Buffer.from(await readBytes(file, 1, 2)).toString()).toBe("bc");
    await file.handle.close();
  });

  it("notices that a file became shorter", async () => {
    const path = put(temporaryFolder(), "a", "");
    writeFileSync(path, Buffer.alloc(100));
    const file = await openFile(path);
    truncateSync(path, 60);
    await expectRefusal(readBytes(file, 40, 60), path, /ends at byte 60, but data up to byte 100 is needed/);
    await file.handle.close();
  });
});
