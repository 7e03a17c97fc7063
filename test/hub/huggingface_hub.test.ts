/** Opt-in: QDORA_PEFT_PYTHON names a Python that has huggingface_hub. Both tools find what the other has downloaded. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { closedUrl, COMMIT, hashOf, startMockHub } from "./mock_hub.js";
import { FILES, hubEnvironment, newCache } from "./pull_story.js";

const python = process.env["QDORA_PEFT_PYTHON"];
const NAMES = ["config.json", "model.safetensors", "tokenizer.json"];

interface Found {
  readonly path: string;
  readonly files: Readonly<Record<string, string>>;
  readonly repos: readonly { id: string; bytes: number; refs: string[]; commits: string[] }[];
  readonly warnings: readonly string[];
}

/** Runs the script beside the mock Hub, which answers meanwhile. */
const ask = (mode: "offline" | "online", env: NodeJS.ProcessEnv): Promise<Found> =>
  new Promise((done, failed) => {
    const child = spawn(python ?? "", [join(import.meta.dirname, "python_cache.py"), mode], {
      env: { ...process.env, ...env, HF_HUB_DISABLE_XET: "1", HF_HUB_DISABLE_PROGRESS_BARS: "1" },
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", failed);
    child.on("close", (status) =>
      status === 0 ? done(JSON.parse(stdout) as Found) : failed(new Error(stderr)),
    );
  });

/** The folder's tree: files, and links with their goals. */
const treeOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return `${path.slice(folder.length)}${entry.isSymbolicLink() ? ` -> ${readlinkSync(path)}` : ""}`;
    })
    .filter((path) => !path.startsWith("/trees/"))
    .toSorted();

describe.skipIf(python === undefined)("Python's huggingface_hub", () => {
  it("finds offline what qdora has pulled", async () => {
    const { home, pull, folder } = newCache();
    expect((await pull(await startMockHub({ files: FILES }))).status).toBe(0);
    const found = await ask("offline", { ...hubEnvironment(home, await closedUrl()), HF_HUB_OFFLINE: "1" });
    const path = join(folder, "snapshots", COMMIT);
    expect(found.path).toBe(path);
    for (const name of NAMES) expect(found.files[name]).toBe(join(path, name));
    const bytes = NAMES.reduce((sum, name) => sum + FILES[name]!.bytes.length, 0);
    expect(found.repos).toEqual([{ id: "acme/tiny", bytes, refs: ["main"], commits: [COMMIT] }]);
    expect(found.warnings).toEqual([]);
  });
  it("downloads what qdora finds, online and offline, in the same layout", async () => {
    const hub = await startMockHub({ files: FILES });
    const theirs = newCache();
    const { path } = await ask("online", {
      ...hubEnvironment(theirs.home, hub.url),
      HF_HUB_DOWNLOAD_TIMEOUT: "10",
    });
    const before = hub.seen.length;
    const run = await theirs.pull(hub, ["--json"]);
    expect(JSON.parse(run.stdout)).toEqual({ path, commit: COMMIT });
    expect(hub.seen.slice(before).some(({ url }) => url.includes("/resolve/"))).toBe(false);
    const offline = await theirs.pull({ url: await closedUrl() }, ["--json"], { HF_HUB_OFFLINE: "1" });
    expect(JSON.parse(offline.stdout)).toEqual({ path, commit: COMMIT });
    // The same files under the same names, made by the one and by the other.
    const ours = newCache();
    await ours.pull(hub);
    expect(treeOf(ours.folder)).toEqual(treeOf(theirs.folder));
    expect(readFileSync(join(ours.folder, "refs/main"))).toEqual(
      readFileSync(join(theirs.folder, "refs/main")),
    );
    expect(existsSync(join(ours.folder, "blobs", hashOf(FILES["model.safetensors"]!)))).toBe(true);
  });
  it("goes on with what qdora has begun: an unfinished pull does not disturb it", async () => {
    const hub = await startMockHub({
      files: FILES,
      faults: [
        {
          host: "storage",
          at: /model\.safetensors$/,
          times: 5,
          strike: ({ response }) => void response.destroy(),
        },
      ],
    });
    const { home, pull, folder } = newCache();
    expect((await pull(hub)).status).toBe(1);
    const found = await ask("online", { ...hubEnvironment(home, hub.url), HF_HUB_DOWNLOAD_TIMEOUT: "10" });
    expect(found.path).toBe(join(folder, "snapshots", COMMIT));
    expect((await pull(hub)).status).toBe(0);
  });
});
