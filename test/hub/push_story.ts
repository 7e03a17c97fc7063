/** `qdora push` as a user starts it, against a mock Hub that takes commits. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect } from "vitest";
import { qdora, storyFolder, type Finished } from "../stories/qdora.js";
import { startMockHub, type Fault, type MockHub } from "./mock_hub.js";
import { MockWrites, READ_TOKEN, WRITE_TOKEN, type WriteOptions } from "./mock_writes.js";
import { hubEnvironment } from "./pull_story.js";

const ADAPTER = resolve("test/fixtures/training/qdora_llama/expected/adapter");
export const REPO = "acme/tiny-dora";
export const BASE = "acme/tiny-base";

export interface PushHub extends MockHub {
  readonly writes: MockWrites;
}

export async function startPushHub(
  options: WriteOptions = {},
  faults: readonly Fault[] = [],
): Promise<PushHub> {
  const writes = new MockWrites(options);
  return { ...(await startMockHub({ files: {}, faults, writes })), writes };
}

type Start = NonNullable<Parameters<typeof qdora>[1]>;

/** Runs it with the token that may write; whatever happens, no token is printed and none leaves the Hub. */
export async function push(
  hub: PushHub,
  folder: string,
  args: readonly string[] = [],
  start: Start = {},
): Promise<Finished> {
  const env = {
    ...hubEnvironment(join(folder, "..", "no-home"), hub.url),
    HF_TOKEN: WRITE_TOKEN,
    ...start.env,
  };
  const run = await qdora(["push", folder, REPO, ...args], { ...start, env });
  expect(run.stderr).not.toMatch(/Warning:|^\s+at /m);
  for (const token of [WRITE_TOKEN, READ_TOKEN]) expect(run.stdout + run.stderr).not.toContain(token);
  for (const { host, headers } of hub.seen)
    if (host === "storage") expect(headers.authorization).toBeUndefined();
  return run;
}

const root = storyFolder();
let count = 0;

/** An output_dir of a finished run, with what belongs to it and does not go up. */
export function adapterFolder(more: Readonly<Record<string, string>> = {}, base: string = BASE): string {
  count++;
  const folder = join(root, `out-${count}`);
  mkdirSync(join(folder, "checkpoint-2"), { recursive: true });
  cpSync(ADAPTER, folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8")) as object;
  const files = {
    "adapter_config.json": JSON.stringify({ ...config, base_model_name_or_path: base }, null, 2),
    "checkpoint-2/optimizer.safetensors": "x",
    "checkpoint-2/adapter_config.json": "{}",
    "metrics.jsonl": '{"step":1,"loss":2.5}\n',
    "report.html": "<p>",
    "qdora_config.yaml": `model: ${folder}\n`,
    "tokenizer.json": "{}",
    "tokenizer_config.json": `{\n  "model_max_length": 1000000000000000019884624838656,\n  "name_or_path": "${folder}"\n}`,
    ...more,
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

export const textAt = (hub: PushHub, path: string, branch?: string): string =>
  hub.writes.branch(REPO, branch).files.get(path)?.bytes.toString() ?? "";

/** Nothing that changes anything was asked for. */
export const expectNothingSent = (hub: PushHub): void =>
  expect(hub.seen.filter(({ method }) => method !== "GET")).toEqual([]);

/** As expectRefused, after lines of progress. */
export function expectRefusedByHub(run: Finished, says: RegExp): void {
  expect(run.stderr).toMatch(says);
  expect(run.stderr).toMatch(/^error: \S.*\nhint: .*\n$/m);
  expect(run.stdout).toBe("");
  expect(run.status).toBe(1);
}
