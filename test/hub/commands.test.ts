/** `finetune` and `generate` with a model of the Hub: pulled first, named in what they write. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { expectRefused, qdora, storyFolder, TINY, writeRows } from "../stories/qdora.js";
import { closedUrl, COMMIT, startMockHub, type MockFile } from "./mock_hub.js";
import { hubEnvironment, newCache } from "./pull_story.js";

const folder = storyFolder();
const ROWS = writeRows(join(folder, "rows.jsonl"), [{ text: "Rain over the sea." }, { text: "Fog." }]);

const files = Object.fromEntries(
  readdirSync(TINY, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }): [string, MockFile] => [
      name,
      { bytes: readFileSync(join(TINY, name)), large: name.endsWith(".safetensors") },
    ]),
);

describe("a model of the Hub", async () => {
  const hub = await startMockHub({ files });
  const { home } = newCache();
  const env = hubEnvironment(home, hub.url);
  const out = join(folder, "out");
  const train = ["finetune", "--model", "acme/tiny", "--data", ROWS, "--output-dir", out, "--max-steps", "1"];

  it("finetune --dry-run pulls it and plans", async () => {
    const run = await qdora([...train, "--dry-run", "--json"], { env });
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toMatch(/^model: no folder acme\/tiny, so acme\/tiny of the Hub$/m);
    expect(run.stderr).toMatch(/^model\.safetensors {2}\d/m);
    expect(Object.keys(JSON.parse(run.stdout) as object)).toContain("gpu_bytes");
  });
  it("finetune trains it, and what it writes names it as it was named", async () => {
    const run = await qdora([...train, "--revision", COMMIT], { env });
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toMatch(/in the cache/);
    expect(JSON.parse(readFileSync(join(out, "adapter_config.json"), "utf8"))).toMatchObject({
      base_model_name_or_path: "acme/tiny",
      revision: COMMIT,
    });
    expect(parse(readFileSync(join(out, "qdora_config.yaml"), "utf8"))).toMatchObject({
      model: "acme/tiny",
      revision: COMMIT,
    });
    const card = readFileSync(join(out, "README.md"), "utf8");
    expect(card).toMatch(/^base_model: "acme\/tiny"$/m);
    expect(card).not.toContain(home);
  });
  it("generate takes it from the cache, offline, with the text that its folder gives", async () => {
    const ask = (model: string): string[] => [
      "generate",
      "--model",
      model,
      "--prompt",
      "Rain",
      "--max-new-tokens",
      "4",
    ];
    const run = await qdora(ask("acme/tiny"), { env: { ...env, HF_HUB_OFFLINE: "1" } });
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toMatch(/offline: using the copy of acme\/tiny in the cache/);
    expect(run.stdout).toBe((await qdora(ask(TINY))).stdout);
  });
});

it("trains on a data set of the Hub, by its splits", async () => {
  const rows = (text: string): MockFile => ({
    large: false,
    bytes: Buffer.from(`${JSON.stringify({ text })}\n`.repeat(3)),
  });
  const hub = await startMockHub({
    type: "datasets",
    id: "acme/notes",
    files: { "data/train.jsonl": rows("Rain over the sea."), "data/test.jsonl": rows("Fog.") },
  });
  const env = hubEnvironment(newCache().home, hub.url);
  const out = join(folder, "notes");
  const args = [
    "finetune",
    "--model",
    TINY,
    "--data",
    "acme/notes:train[:2]",
    "--output-dir",
    out,
    "--dry-run",
  ];
  const run = await qdora(args, { env });
  expect(run.status, run.stderr).toBe(0);
  expect(run.stderr).toMatch(/^data: no file acme\/notes, so the data set acme\/notes of the Hub$/m);
  expect(run.stderr).toMatch(/^data: 2 rows/m);
  const typo = await qdora(["finetune", "--model", TINY, "--data", "acme/none", "--output-dir", out], {
    env,
  });
  expectRefusedByHub(typo.stderr);
});

function expectRefusedByHub(stderr: string): void {
  expect(stderr).toMatch(/error: acme\/none: .*\nhint: /);
}

it("says that there is neither a folder nor a Hub", async () => {
  const env = hubEnvironment(newCache().home, await closedUrl());
  const run = await qdora(["generate", "--model", "models/typo", "--prompt", "x"], { env });
  expect(run.status).toBe(1);
  expect(run.stderr).toMatch(/^model: no folder models\/typo, so models\/typo of the Hub$/m);
  expect(run.stderr).toMatch(/error: 127\.0\.0\.1:\d+: cannot be reached/);
  // One more try shows that it is no hiccup.
  expect(run.stderr.match(/trying again/g)).toHaveLength(1);
});

it("takes a misspelt folder for one, and asks nobody", async () => {
  const hub = await startMockHub({ files });
  const env = hubEnvironment(newCache().home, hub.url);
  const run = await qdora(["generate", "--model", "models/tinny", "--prompt", "x"], { env });
  expectRefused(run, 2, /model: there is no folder models\/tinny\nhint: did you mean models\/tiny\? /);
  for (const path of ["./models/tinny", "models/other/tinny", "~/tinny", "/tinny"])
    expectRefused(
      await qdora(["generate", "--model", path, "--prompt", "x"], { env }),
      1,
      /tinny.*(does not exist|no folder)/,
    );
  expect(hub.seen).toEqual([]);
});

it("quantises a model of the Hub", async () => {
  const hub = await startMockHub({ files });
  const env = hubEnvironment(newCache().home, hub.url);
  const [pulled, local] = [join(folder, "pulled-nf4"), join(folder, "local-nf4")];
  const run = await qdora(["quantize", "acme/tiny", pulled, "--revision", COMMIT], { env });
  expect(run.status, run.stderr).toBe(0);
  expect((await qdora(["quantize", TINY, local])).status).toBe(0);
  const bytes = (path: string): Buffer => readFileSync(join(path, "model.safetensors"));
  expect(bytes(pulled).equals(bytes(local))).toBe(true);
});

it("offers a plan no switches that mean nothing to it, and shows sizes as people write them", async () => {
  const plan = (await qdora(["plan", "--help"])).stdout;
  expect(plan).toContain("--max-seq-length");
  expect(plan).not.toMatch(/--resume|--dry-run/);
  const quantize = (await qdora(["quantize", "--help"])).stdout;
  expect(quantize).toContain("5GB");
  expect(quantize).not.toContain("5000000000");
});

it("refuses a revision of a folder", async () => {
  expectRefused(
    await qdora(["generate", "--model", TINY, "--revision", "v2", "--prompt", "x"]),
    2,
    /revision: "v2" is for models of the Hub, but .*tiny is a folder\nhint: leave out --revision/,
  );
});
