/** `scripts/make_synthetic_model.mjs` as people start it (it reads the built `dist`). */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openCheckpoint, readAsF32 } from "../../src/formats/checkpoint.js";
import { readArchitecture } from "../../src/model/config.js";
import { checkModelHeaders } from "../../src/model/load.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "qdora-synthetic-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

const make = (...args: string[]) =>
  spawnSync(process.execPath, ["scripts/make_synthetic_model.mjs", ...args], { encoding: "utf8" });

function digest(out: string): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(out).toSorted()) hash.update(name).update(readFileSync(join(out, name)));
  return hash.digest("hex");
}

test("a small one is sound, seeded, in shards, and looks like a model's weights", async () => {
  const out = join(folder, "a");
  const small = ["--layers", "2", "--max-shard-size", "60MB"];
  const made = make("smollm2-135m", out, ...small);
  expect(made.status, made.stderr).toBe(0);
  expect(readdirSync(out).filter((name) => name.endsWith(".safetensors")).length).toBe(2);
  const arch = await readArchitecture(out);
  expect(arch).toMatchObject({ layers: 2, hidden: 576, tied: true, quantized: false });
  const checkpoint = await openCheckpoint(out);
  await checkModelHeaders(checkpoint, arch);
  const moments = async (name: string): Promise<readonly [number, number]> => {
    const values = await readAsF32(checkpoint, checkpoint.tensors.get(name)!);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return [mean, Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length)];
  };
  // 884,736 values: the mean of the deviates is within 5 standard errors, 0.005 of one; of 576 within 0.2.
  const [mean, deviation] = await moments("model.layers.1.mlp.down_proj.weight");
  expect(Math.abs(mean)).toBeLessThan(0.02 * 0.006);
  expect(Math.abs(deviation / 0.02 - 1)).toBeLessThan(0.005);
  expect(Math.abs((await moments("model.norm.weight"))[0] - 1)).toBeLessThan(0.03);
  await checkpoint.close();

  expect(make("smollm2-135m", join(folder, "b"), ...small).status).toBe(0);
  expect(digest(join(folder, "b"))).toBe(digest(out));
  expect(make("smollm2-135m", join(folder, "c"), ...small, "--seed", "1").status).toBe(0);
  expect(digest(join(folder, "c"))).not.toBe(digest(out));
});

test("it refuses in a line what it cannot do, and leaves nothing behind", () => {
  writeFileSync(join(folder, "mine"), "");
  for (const [args, exit, says] of [
    [["llama-9", join(folder, "out")], 2, /unknown geometry llama-9[\s\S]*llama-2-7b/],
    [["llama-2-7b", join(folder, "out"), "--layers", "0"], 2, /--layers: got 0/],
    [["llama-2-7b", folder], 2, /not empty/],
    [["llama-2-7b"], 2, /expected two names/],
    // Seven thousand gigabytes.
    [
      ["llama-3.1-70b", join(folder, "out"), "--layers", "4096"],
      1,
      /needs \d+ bytes, but the disk has \d+ free/,
    ],
  ] as const) {
    const refused = make(...args);
    expect(refused.stderr).toMatch(says);
    expect(refused.stderr.split("\n").length).toBeLessThanOrEqual(3);
    expect(refused.status).toBe(exit);
  }
  expect(readdirSync(folder)).toEqual(["mine"]);
});
