/** A checkpoint folder appears whole or not at all, is checked to the byte, and the good one is never deleted. */
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import {
  listCheckpoints,
  pruneCheckpoints,
  removeLeftovers,
  verifyCheckpoint,
  writeCheckpoint,
} from "../../src/train/checkpoint_folder.js";

const root = mkdtempSync(join(tmpdir(), "qdora-checkpoint-"));
afterAll(() => rmSync(root, { recursive: true }));
let out = "";
beforeEach(() => {
  out = mkdtempSync(join(root, "out-"));
});

const save = (step: number, text = `state ${step}`): Promise<string> =>
  writeCheckpoint(out, step, (folder) => {
    writeFileSync(join(folder, "state"), text);
    writeFileSync(join(folder, "more"), "");
    return Promise.resolve();
  });
const verify = (step: number): Promise<void> => verifyCheckpoint(out, step, ["state"]);

describe("writeCheckpoint", () => {
  it("writes a folder that verifies, with the sha256 of every file", async () => {
    const path = await save(7);
    expect(path).toBe(join(out, "checkpoint-7"));
    await verify(7);
    expect(readdirSync(out)).toEqual(["checkpoint-7"]);
    expect(JSON.parse(readFileSync(join(path, "manifest.json"), "utf8"))).toEqual({
      format: "qdora checkpoint",
      version: 1,
      step: 7,
      files: {
        more: { bytes: 0, sha256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        // printf 'state 7' | sha256sum
        state: { bytes: 7, sha256: "8a9828bb1fa1d3b40f13f3af4091f57991e528c63c9992a1ca273775de3eedce" },
      },
    });
  });

  it("replaces one of the same step", async () => {
    await save(7, "old");
    await save(7, "new");
    expect(readdirSync(out)).toEqual(["checkpoint-7"]);
    expect(readFileSync(join(out, "checkpoint-7", "state"), "utf8")).toBe("new");
  });

  it("keeps what was there when the disk is full, and says so", async () => {
    await save(7);
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    const failing = (step: number): Promise<string> =>
      writeCheckpoint(out, step, (folder) => {
        writeFileSync(join(folder, "state"), "half");
        return Promise.reject(full);
      });
    await expect(failing(8)).rejects.toThrow(/checkpoint-8: could not be saved \(ENOSPC: no space left/);
    await expect(failing(7)).rejects.toThrow(/checkpoint-7: could not be saved/);
    expect(readdirSync(out)).toEqual(["checkpoint-7"]);
    await verify(7);
  });
});

describe("verifyCheckpoint", () => {
  const file = (name: string): string => join(out, "checkpoint-7", name);
  it.each<readonly [string, () => void, RegExp]>([
    [
      "a byte changed",
      () => writeFileSync(file("state"), "state 8"),
      /state: is not the file of the manifest/,
    ],
    ["a file cut", () => truncateSync(file("state"), 3), /state: has 3 bytes, the manifest says 7/],
    ["a file grown", () => appendFileSync(file("more"), "x"), /more: has 1 bytes, the manifest says 0/],
    ["a file gone", () => rmSync(file("state")), /state: does not exist/],
    ["no manifest", () => rmSync(file("manifest.json")), /manifest\.json: does not exist/],
    ["an empty manifest", () => writeFileSync(file("manifest.json"), ""), /manifest\.json: is empty/],
    [
      "a manifest of another kind",
      () => writeFileSync(file("manifest.json"), "{}"),
      /manifest\.json: format: /,
    ],
    [
      "a manifest of another step",
      () =>
        writeFileSync(
          file("manifest.json"),
          readFileSync(file("manifest.json"), "utf8").replace('"step": 7', '"step": 8'),
        ),
      /manifest\.json: names step 8/,
    ],
    [
      "a manifest that leads out of the folder",
      () =>
        writeFileSync(
          file("manifest.json"),
          readFileSync(file("manifest.json"), "utf8").replace('"more"', '"../more"'),
        ),
      /manifest\.json: files/,
    ],
    [
      "a manifest that leaves a file out",
      () =>
        writeFileSync(
          file("manifest.json"),
          readFileSync(file("manifest.json"), "utf8").replace('"state"', '"other"'),
        ),
      /manifest\.json: does not name state/,
    ],
  ])("refuses: %s", async (_, damage, says) => {
    await save(7);
    damage();
    await expect(verify(7)).rejects.toThrow(says);
  });
});

describe("checkpoints of a run", () => {
  it("are listed from the newest; other names are none", async () => {
    for (const name of [
      "checkpoint-9",
      "checkpoint-10",
      "checkpoint-0",
      "checkpoint-01",
      "checkpoint-x",
      "checkpoint-5.0123456789ab.tmp",
    ])
      mkdirSync(join(out, name));
    expect(await listCheckpoints(out)).toEqual([10, 9, 0]);
    expect(await listCheckpoints(join(out, "none"))).toEqual([]);
    await removeLeftovers(out);
    expect(readdirSync(out)).not.toContain("checkpoint-5.0123456789ab.tmp");
  });

  it("are deleted from the oldest, and never the one just written for a damaged one", async () => {
    for (const step of [2, 4, 6, 9]) await save(step);
    writeFileSync(join(out, "checkpoint-9", "state"), "damaged");
    await pruneCheckpoints(out, 6, 2);
    expect(await listCheckpoints(out)).toEqual([9, 6, 4]);
    await pruneCheckpoints(out, 6, 1);
    expect(await listCheckpoints(out)).toEqual([9, 6]);
  });
});
