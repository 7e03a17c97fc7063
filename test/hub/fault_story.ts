/** A pull through scripted faults, and what has to be true afterwards. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { Finished } from "../stories/qdora.js";
import { COMMIT, startMockHub, type Fault, type MockHub, type MockOptions, type Seen } from "./mock_hub.js";
import { FILES, newCache, type Cache } from "./pull_story.js";

export const MODEL = FILES["model.safetensors"]!;
export const SIZE = MODEL.bytes.length;
export const WEIGHTS = /model\.safetensors$/;

export interface Story {
  readonly run: Finished;
  readonly hub: MockHub;
  readonly cache: Cache;
  /** Requests for the weights at the storage server. */
  readonly asked: readonly Seen[];
}

export async function pullWith(
  faults: readonly Fault[],
  env: NodeJS.ProcessEnv = {},
  more: Partial<MockOptions> = {},
): Promise<Story> {
  const hub = await startMockHub({ files: FILES, faults, ...more });
  const cache = newCache();
  const run = await cache.pull(hub, [], env);
  return { run, hub, cache, asked: askedOf(hub) };
}
export const askedOf = (hub: MockHub): Seen[] =>
  hub.seen.filter(({ host, url }) => host === "storage" && url.includes("model.safetensors"));

/** The pull ended well, and every file has the right bytes. */
export function expectWhole({ run, cache }: Story, files = FILES): void {
  expect(run.status, run.stderr).toBe(0);
  const snapshot = join(cache.folder, "snapshots", COMMIT);
  for (const name of readdirSync(snapshot))
    expect(readFileSync(join(snapshot, name)).equals(files[name]!.bytes)).toBe(true);
  expect(readdirSync(snapshot)).toHaveLength(3);
  expect(cache.blobs().filter((name) => name.includes("."))).toEqual([]);
}

export const cutAt = (cutAfter: number, times = 1): Fault => ({
  host: "storage",
  at: WEIGHTS,
  times,
  strike: ({ serve }) => serve({ cutAfter }),
});

/** Ended with one message, and no byte of it stands under a final name. */
export function expectNothingKept({ run, cache }: Story, says: RegExp): void {
  expect(run.status).toBe(1);
  expect(run.stderr.split("\n").slice(-3).join("\n")).toMatch(says);
  expect(run.stderr).not.toMatch(/^\s+at /m);
  expect(existsSync(join(cache.folder, "snapshots", COMMIT))).toBe(false);
  expect(existsSync(join(cache.folder, "refs"))).toBe(false);
}
