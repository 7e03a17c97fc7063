/** The lock of an output folder: it holds against a second run, and gives way when its process has ended, however that came. */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { thisProcess } from "../../src/formats/process_identity.js";
import { LOCK_FILE, lockFolder } from "../../src/train/lock.js";

const root = mkdtempSync(join(tmpdir(), "qdora-lock-"));
afterAll(() => rmSync(root, { recursive: true }));
let count = 0;
const newFolder = (): string => join(root, `out${++count}`);

const me = thisProcess();
/** Leaves the lock of another process in a new folder. */
function lockedBy(owner: object | string, secondsAgo = 0): string {
  const folder = newFolder();
  mkdirSync(folder);
  const path = join(folder, LOCK_FILE);
  writeFileSync(path, typeof owner === "string" ? owner : JSON.stringify({ token: "other", ...owner }));
  const then = new Date(Date.now() - secondsAgo * 1000);
  utimesSync(path, then, then);
  return folder;
}
const endedPid = spawnSync(process.execPath, ["-e", ""]).pid;

describe("lockFolder", () => {
  it("refuses a second run until the first gives the folder free", () => {
    const folder = newFolder();
    const first = lockFolder(folder);
    expect(() => lockFolder(folder)).toThrow(`is used by another run (process ${process.pid} on ${me.host})`);
    expect(readdirSync(folder)).toEqual([LOCK_FILE]);
    first.release();
    expect(existsSync(folder)).toBe(false);
    lockFolder(folder).release();
  });

  it("leaves a folder that was there, and one that is used", () => {
    const there = newFolder();
    mkdirSync(there);
    lockFolder(there).release();
    expect(readdirSync(there)).toEqual([]);
    const used = join(newFolder(), "deep", "out");
    const lock = lockFolder(used);
    writeFileSync(join(used, "file"), "");
    lock.release();
    expect(readdirSync(used)).toEqual(["file"]);
  });

  it.each<readonly [string, object | string, number]>([
    ["whose process ended", { ...me, pid: endedPid }, 0],
    ["whose pid belongs to a later process", { ...me, started: `${me.started}1` }, 0],
    ["from before the machine started again", { ...me, boot: "another" }, 0],
    ["of another machine that is silent", { ...me, host: "elsewhere" }, 300],
    ["that was half-written long ago", '{"token":', 300],
  ])("takes over a lock %s", (_, owner, secondsAgo) => {
    const folder = lockedBy(owner, secondsAgo);
    const lock = lockFolder(folder);
    expect(JSON.parse(readFileSync(join(folder, LOCK_FILE), "utf8"))).toMatchObject({ pid: process.pid });
    expect(readdirSync(folder)).toEqual([LOCK_FILE]);
    lock.release();
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each<readonly [string, object | string]>([
    ["of another machine that was touched just now", { ...me, host: "elsewhere" }],
    ["of another container on this machine", { ...me, pidSpace: "pid:[1]" }],
    ["that is being written", ""],
  ])("respects a lock %s", (_, owner) => {
    const folder = lockedBy(owner, 10);
    const before = readFileSync(join(folder, LOCK_FILE), "utf8");
    expect(() => lockFolder(folder)).toThrow("is used by another run");
    expect(readdirSync(folder)).toEqual([LOCK_FILE]);
    expect(readFileSync(join(folder, LOCK_FILE), "utf8")).toBe(before);
  });

  it("does not take away a lock that has become another's", () => {
    const folder = newFolder();
    const lock = lockFolder(folder);
    writeFileSync(join(folder, LOCK_FILE), JSON.stringify({ token: "other", ...me }));
    lock.release();
    expect(readdirSync(folder)).toEqual([LOCK_FILE]);
  });
});
