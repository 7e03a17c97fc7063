/** The project's own checks: the count of tests that CI reads, and the direction of imports. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "qdora-checks-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

function put(name: string, text: string): string {
  const path = join(folder, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

function run(script: string, ...args: string[]) {
  return spawnSync(process.execPath, [join("scripts", script), ...args], { encoding: "utf8" });
}

function report(...statuses: string[]): string {
  const assertionResults = statuses.map((status) => ({ status }));
  const status = statuses.includes("failed") ? "failed" : "passed";
  return JSON.stringify({ testResults: [{ name: "a.test.ts", status, assertionResults }] });
}

test("counts add up over reports", () => {
  const a = put("a.json", report("passed", "passed", "skipped"));
  const b = put("b.json", report("passed", "failed"));
  const counted = run("count-tests.mjs", a, b);
  expect(counted.stdout).toBe("3 passed, 1 failed, 1 skipped\n");
  expect(counted.status).toBe(1);
  expect(run("count-tests.mjs", a).status).toBe(0);
});

test.each([
  ["a file that did not load", ["unloaded.json"], "1 passed, 1 failed\n"],
  ["a missing report", ["good.json", "missing.json"], "1 passed, 1 failed\n"],
  ["a bad exit status", ["--status", "139", "good.json"], "1 passed, 1 failed\n"],
  ["a run without tests", ["empty.json"], "0 passed, 1 failed\n"],
])("%s counts as failed", (_name, args, line) => {
  const unloaded = { name: "b.test.ts", status: "failed", assertionResults: [] };
  put("good.json", report("passed"));
  put("empty.json", JSON.stringify({ testResults: [] }));
  put(
    "unloaded.json",
    JSON.stringify({ testResults: [JSON.parse(report("passed")).testResults[0], unloaded] }),
  );
  const counted = run("count-tests.mjs", ...args.map((a) => (a.endsWith(".json") ? join(folder, a) : a)));
  expect(counted.stdout).toBe(line);
  expect(counted.status).toBe(1);
});

test("imports go down", () => {
  put("formats/error.ts", "export class QdoraError extends Error {}\n");
  put(
    "gpu/device.ts",
    'import { QdoraError } from "../formats/error.js";\nexport const load = () => import("webgpu");\n',
  );
  put(
    "program/plan.ts",
    'import type { a } from "../gpu/device.js";\n// import { x } from "../train/loop.js";\n',
  );
  put("cli.ts", 'import {\n  plan,\n} from "./program/plan.js";\nexport * from "./cli.js";\n');
  const good = run("check-floors.mjs", folder);
  expect(good.stderr).toBe("");
  expect(good.status).toBe(0);

  put("gpu/up.ts", 'import "../program/plan.js";\n');
  put("quant/side.ts", 'export { load } from "../gpu/device.js";\n');
  put("model/dawn.ts", '\nconst dawn = await import("webgpu");\n');
  put("utils/any.ts", "export {};\n");
  put("train/gone.ts", 'import type { T } from "./missing.js";\n');
  const bad = run("check-floors.mjs", folder);
  expect(bad.status).toBe(1);
  expect(bad.stderr.split("\n").filter(Boolean)).toEqual([
    "src/gpu/up.ts:1: gpu (floor 0) may not import program (floor 1)",
    "src/model/dawn.ts:2: only src/gpu may import Dawn (webgpu)",
    "src/quant/side.ts:1: quant and gpu share floor 0",
    "src/train/gone.ts:1: ./missing.js does not exist",
    "src/utils/any.ts:1: is on no floor (scripts/check-floors.mjs lists them)",
  ]);
});
