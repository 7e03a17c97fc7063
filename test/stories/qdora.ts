/** The built command line in a process of its own, as users start it. */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect } from "vitest";

const CLI = resolve("dist/cli.js");
export const TINY = resolve("models/tiny");
/** Two layers, 320 tokens, 512 positions, no tokenizer. */
export const LLAMA = resolve("test/fixtures/models/llama");

export interface Finished {
  /** Exit code; null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Start {
  readonly env?: NodeJS.ProcessEnv;
  /** Standard input; empty if left out. */
  readonly input?: string;
  /** Called once it runs. */
  readonly onStart?: (child: ChildProcess) => void;
  /** Called with everything that stderr has said so far. */
  readonly onText?: (stderr: string, child: ChildProcess) => void;
}

/** Runs `qdora ARGS…` to its end, with the node that runs the tests (under with-gpu.sh the one that sees the GPU). */
export function qdora(args: readonly string[], start: Start = {}): Promise<Finished> {
  if (!existsSync(CLI)) throw new Error(`${CLI} is missing: run \`npm run build\``);
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, [CLI, ...args], { env: { ...process.env, ...start.env } });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      start.onText?.(stderr, child);
    });
    child.on("error", failed);
    child.on("close", (status) => done({ status, stdout, stderr }));
    start.onStart?.(child);
    child.stdin.end(start.input ?? "");
  });
}

/** A folder that is gone after the file's tests. */
export function storyFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "qdora-story-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes rows as JSONL; texts stand as they are. @returns the path */
export function writeRows(path: string, rows: readonly (object | string)[]): string {
  writeFileSync(path, rows.map((row) => `${typeof row === "string" ? row : JSON.stringify(row)}\n`).join(""));
  return path;
}

/** Expects one readable message: `error: area: fact` and perhaps `hint: …`; nothing on stdout, no stack trace. */
export function expectRefused(run: Finished, exit: 1 | 2, says: RegExp): void {
  expect(run.stdout).toBe("");
  expect(run.stderr).not.toMatch(/^\s+at .*\.[cm]?[jt]s:\d+/m);
  const lines = run.stderr.trimEnd().split("\n");
  const message = lines.slice(lines.findIndex((line) => line.startsWith("error: ")));
  expect(message[0]).toMatch(/^error: \S.*: \S/);
  expect(message[0]).not.toMatch(/^error: internal/);
  expect(message.length).toBeLessThanOrEqual(3);
  expect(
    message.slice(1).every((line) => /^hint: \S/.test(line)),
    message.join("\n"),
  ).toBe(true);
  expect(message.join("\n")).toMatch(says);
  expect(run.status).toBe(exit);
}
