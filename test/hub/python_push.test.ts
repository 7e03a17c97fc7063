/** Opt-in: QDORA_PEFT_PYTHON names a Python that has huggingface_hub. Its uploads and qdora's are the same to the Hub. */
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { storyFolder } from "../stories/qdora.js";
import { WRITE_TOKEN } from "./mock_writes.js";
import { hubEnvironment } from "./pull_story.js";
import { adapterFolder, push, REPO, startPushHub } from "./push_story.js";

const python = process.env["QDORA_PEFT_PYTHON"];
const root = storyFolder();

const pushWithPython = (folder: string, url: string): Promise<string> =>
  new Promise((done, failed) => {
    const env = {
      ...hubEnvironment(join(root, "home"), url),
      HF_TOKEN: WRITE_TOKEN,
      HF_HUB_DISABLE_XET: "1",
    };
    const script = join(import.meta.dirname, "python_push.py");
    const child = spawn(python ?? "", [script, folder, REPO], { env: { ...process.env, ...env } });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    child.on("error", failed);
    child.on("close", (status) => (status === 0 ? done(stderr) : failed(new Error(stderr))));
  });

describe.skipIf(python === undefined)("Python's huggingface_hub", () => {
  it.each([undefined, 4000])("uploads the same (parts of %s bytes)", async (chunkSize) => {
    const ours = await startPushHub({ ...(chunkSize !== undefined && { chunkSize }) });
    const run = await push(ours, adapterFolder());
    expect(run.status, run.stderr).toBe(0);
    const { files } = ours.writes.branch(REPO);
    // What qdora sent, once more by Python.
    const folder = join(root, `copy-${chunkSize}`);
    mkdirSync(folder);
    for (const [name, { bytes }] of files) writeFileSync(join(folder, name), bytes);
    const theirs = await startPushHub({ ...(chunkSize !== undefined && { chunkSize }) });
    await pushWithPython(folder, theirs.url);
    expect(theirs.writes.branch(REPO).files).toEqual(files);
    const asked = (hub: typeof ours): string[] =>
      hub.seen
        .filter(({ method }) => method !== "GET")
        .map(({ method, url }) => `${method} ${url}`)
        .toSorted();
    expect(asked(ours)).toEqual(
      expect.arrayContaining(asked(theirs).filter((line) => !line.includes("validate-yaml"))),
    );
  });
});
