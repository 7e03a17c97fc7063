/** `qdora push` through the built command line: what goes up, what is refused, and what the network may do. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { pushFolder } from "../../src/index.js";
import { expectRefused, storyFolder } from "../stories/qdora.js";
import { large, type Fault } from "./mock_hub.js";
import { WRITE_TOKEN } from "./mock_writes.js";
import {
  adapterFolder,
  BASE,
  expectNothingSent,
  expectRefusedByHub,
  push,
  REPO,
  startPushHub,
  textAt,
} from "./push_story.js";

const frontOf = (card: string): unknown => parse(card.split("---")[1] ?? "");

describe.concurrent("an adapter", () => {
  it("makes the repository and commits what belongs there, and nothing else", async () => {
    const hub = await startPushHub();
    const folder = adapterFolder();
    const run = await push(hub, folder, ["--json"]);
    expect(run.status, run.stderr).toBe(0);
    const { id, files, commits } = hub.writes.branch(REPO);
    expect(JSON.parse(run.stdout)).toEqual({ url: `${hub.url}/${REPO}`, commit: id });
    expect([...files.keys()].toSorted()).toEqual([
      ".gitattributes",
      "README.md",
      "adapter_config.json",
      "adapter_model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    const weights = files.get("adapter_model.safetensors")!;
    expect(weights.large).toBe(true);
    expect(weights.bytes.equals(readFileSync(join(folder, "adapter_model.safetensors")))).toBe(true);
    expect(textAt(hub, "adapter_config.json")).toBe(
      readFileSync(join(folder, "adapter_config.json"), "utf8"),
    );
    expect(commits).toMatchObject([{ summary: "Upload adapter with qdora" }]);
    expect(hub.writes.repos.get(REPO)?.isPrivate).toBe(false);
    const card = textAt(hub, "README.md");
    expect(frontOf(card)).toEqual({
      base_model: BASE,
      library_name: "peft",
      pipeline_tag: "text-generation",
      tags: ["qdora", "dora"],
    });
    expect(card).toContain(`PeftModel.from_pretrained(base, "${REPO}")`);
    // Paths of this machine are taken out, large numbers stay as they are.
    expect(textAt(hub, "tokenizer_config.json")).toBe(
      `{\n  "model_max_length": 1000000000000000019884624838656,\n  "name_or_path": "${BASE}"\n}`,
    );
    for (const [name, { bytes }] of files) expect(bytes.includes(folder), name).toBe(false);
  });
  it("--private, --revision, --message and --include", async () => {
    const hub = await startPushHub();
    const args = [
      "--private",
      "--revision",
      "runs/1",
      "--message",
      "Rank 8\n\nWhy not.",
      "--include",
      "metrics.jsonl,checkpoint-2/*",
      "--json",
    ];
    const run = await push(hub, adapterFolder(), args);
    expect(run.status, run.stderr).toBe(0);
    expect(hub.writes.repos.get(REPO)?.isPrivate).toBe(true);
    const { files, commits, id } = hub.writes.branch(REPO, "runs/1");
    expect(JSON.parse(run.stdout)).toEqual({ url: `${hub.url}/${REPO}/tree/runs%2F1`, commit: id });
    expect(commits).toMatchObject([{ summary: "Rank 8", description: "Why not." }]);
    expect([...files.keys()]).toEqual(
      expect.arrayContaining(["metrics.jsonl", "checkpoint-2/optimizer.safetensors"]),
    );
    expect(hub.writes.branch(REPO).commits).toEqual([]);
  });
  it("an existing repository: only what is new, and nothing the second time", async () => {
    const old = { bytes: Buffer.from("{}"), large: false };
    const shard = large(1000);
    const files = { "tokenizer.json": old, "model-00001-of-00002.safetensors": shard };
    const hub = await startPushHub({ repos: { [REPO]: { files } } });
    const folder = adapterFolder();
    const run = await push(hub, folder);
    expect(run.status, run.stderr).toBe(0);
    expect(run.stdout).toBe("");
    expect(run.stderr).toMatch(/warning: the repository also holds "model-00001-of-00002\.safetensors"/);
    const { id, commits } = hub.writes.branch(REPO);
    expect(run.stderr).toContain(`commit ${id}\n${hub.url}/${REPO}\n`);
    const again = await push(hub, folder, ["--json"]);
    expect(again.status, again.stderr).toBe(0);
    expect(again.stderr).toMatch(/has these files already/);
    expect(JSON.parse(again.stdout)).toMatchObject({ commit: id });
    expect(commits).toHaveLength(1);
    expect(hub.seen.filter(({ method }) => method === "PUT")).toHaveLength(1);
  });
  it("keeps a card that a person wrote, with the front matter completed", async () => {
    const hub = await startPushHub();
    const card = `---\nlanguage: en # mine\nlicense: unknown\ntags: [poems]\n---\n\n# Poems\n\nSee https://host.example/home/x/y, and/or [this](docs/a.md).\n`;
    const run = await push(hub, adapterFolder({ "README.md": card }));
    expect(run.status, run.stderr).toBe(0);
    const pushed = textAt(hub, "README.md");
    expect(frontOf(pushed)).toEqual({
      language: "en",
      tags: ["poems", "dora"],
      base_model: BASE,
      library_name: "peft",
      pipeline_tag: "text-generation",
    });
    expect(pushed).toContain("language: en # mine");
    expect(pushed.endsWith(card.slice(card.indexOf("\n# Poems")))).toBe(true);
  });
  it("front matter that the Hub refuses: before the weights go up", async () => {
    const hub = await startPushHub();
    const run = await push(hub, adapterFolder({ "README.md": "---\nlicense: mine\n---\n# x\n" }));
    expectRefusedByHub(run, /the Hub refuses the upload \(400: "license" must be one of \[apache/);
    expect(hub.seen.filter(({ method }) => method === "PUT")).toEqual([]);
    expect(hub.writes.branch(REPO).commits).toEqual([]);
  });
  it("a base on this disk: --base-model names it, or none", async () => {
    const hub = await startPushHub();
    const folder = adapterFolder({}, "models/tiny");
    expectRefused(
      await push(hub, folder),
      1,
      /names the base model "models\/tiny", a folder of this machine.*\nhint: .*--base-model/,
    );
    expect(hub.seen).toEqual([]);
    const run = await push(hub, folder, ["--base-model", "acme/other"]);
    expect(run.status, run.stderr).toBe(0);
    expect(JSON.parse(textAt(hub, "adapter_config.json"))).toMatchObject({
      base_model_name_or_path: "acme/other",
    });
    expect(frontOf(textAt(hub, "README.md"))).toMatchObject({ base_model: "acme/other" });
    const none = await push(hub, folder, ["--base-model", "none"]);
    expect(none.status, none.stderr).toBe(0);
    expect(JSON.parse(textAt(hub, "adapter_config.json"))).toMatchObject({ base_model_name_or_path: null });
    expect(Object.keys(frontOf(textAt(hub, "README.md")) as object)).not.toContain("base_model");
    expect(hub.writes.branch(REPO).commits).toHaveLength(2);
  });
});

describe.concurrent("refused before anything is sent", () => {
  const refused: readonly (readonly [string, () => readonly [string, ...string[]], 1 | 2, RegExp])[] = [
    ["a folder that is not there", () => ["/no/such/folder"], 1, /does not exist\nhint: /],
    [
      "a folder without adapter or model",
      () => [storyDir({ "notes.txt": "x" })],
      1,
      /holds neither adapter_config\.json nor config\.json/,
    ],
    [
      "a run with checkpoints only",
      () => [unfinished()],
      1,
      /the run is not finished: there are checkpoints up to checkpoint-10,.*\nhint: .*--resume/,
    ],
    [
      "a run without anything yet",
      () => [storyDir({ "qdora_config.yaml": "x: 1" })],
      1,
      /the run is not finished: there is no adapter yet/,
    ],
    [
      "an adapter without weights",
      () => [without("adapter_model.safetensors")],
      1,
      /adapter_model\.safetensors: does not exist/,
    ],
    ["NaN in the weights", () => [withNan()], 1, /adapter_model\.safetensors: .*holds NaN at index 0/],
    [
      "a card with NaN",
      () => [adapterFolder({ "README.md": "# x\n\n| last training loss | NaN |\n" })],
      1,
      /README\.md: line \d+ has a number that is none/,
    ],
    [
      "a card with a path",
      () => [adapterFolder({ "README.md": "# x\n\nfrom /home/me/out\n" })],
      1,
      /README\.md: line \d+ names a path of this machine: "\/home\/me\/out"/,
    ],
    [
      "front matter that is no YAML",
      () => [adapterFolder({ "README.md": "---\na: [1\n---\n" })],
      1,
      /README\.md: line \d+: the front matter is not YAML/,
    ],
    [
      "a commit as branch",
      () => [adapterFolder(), "--revision", "0".repeat(40)],
      2,
      /revision: .*is a commit/,
    ],
    ["an empty message", () => [adapterFolder(), "--message", " "], 2, /message: needs a first line/],
    [
      "a pattern that names nothing",
      () => [adapterFolder(), "--include", "*.gguf"],
      2,
      /include: "\*\.gguf" names no file/,
    ],
    [
      "a wrong base",
      () => [adapterFolder(), "--base-model", "../x"],
      2,
      /base-model: .* is not a name of the form ORG\/NAME/,
    ],
  ];
  it.each(refused)("%s", async (_, make, exit, says) => {
    const hub = await startPushHub();
    const [folder, ...args] = make();
    expectRefused(await push(hub, folder, args), exit, says);
    expect(hub.seen).toEqual([]);
  });
  it("no token; offline", async () => {
    const hub = await startPushHub();
    const folder = adapterFolder();
    expectRefused(
      await push(hub, folder, [], { env: { HF_TOKEN: undefined } }),
      1,
      /token: there is none.*\nhint: .*write access.*HF_TOKEN/,
    );
    expectRefused(await push(hub, folder, [], { env: { HF_HUB_OFFLINE: "1" } }), 1, /HF_HUB_OFFLINE is set/);
    expect(hub.seen).toEqual([]);
  });
  it("--private for a public repository", async () => {
    const hub = await startPushHub({ repos: { [REPO]: {} } });
    expectRefusedByHub(
      await push(hub, adapterFolder(), ["--private"]),
      /exists and is public, but --private was asked for/,
    );
    expectNothingSent(hub);
  });
});

describe.concurrent("a model", () => {
  it("goes up in parts, and no other files do", async () => {
    const hub = await startPushHub({ chunkSize: 1_000_000 });
    const folder = modelFolder();
    const run = await push(hub, folder, ["--json"]);
    expect(run.status, run.stderr).toBe(0);
    const { files } = hub.writes.branch(REPO);
    const weights = files.get("model.safetensors")!;
    expect(weights.bytes.equals(readFileSync("models/tiny/model.safetensors"))).toBe(true);
    expect([...files.keys()].toSorted()).toEqual([
      ".gitattributes",
      "README.md",
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect(hub.seen.filter(({ method }) => method === "PUT")).toHaveLength(6);
    expect(frontOf(textAt(hub, "README.md"))).toMatchObject({
      library_name: "transformers",
      base_model: BASE,
    });
  });
  it("goes up in shards with their index", async () => {
    const hub = await startPushHub();
    const folder = modelFolder();
    const shard = "model-00001-of-00001.safetensors";
    renameSync(join(folder, "model.safetensors"), join(folder, shard));
    const index = join(folder, "model.safetensors.index.json");
    writeFileSync(index, JSON.stringify({ weight_map: { "lm_head.weight": "model-00002.safetensors" } }));
    expectRefused(
      await push(hub, folder),
      1,
      /index\.json: names "model-00002\.safetensors", which is not beside it/,
    );
    expect(hub.seen).toEqual([]);
    const header = readFileSync(join(folder, shard));
    const tensors = Object.keys(
      JSON.parse(header.subarray(8, 8 + Number(header.readBigUInt64LE(0))).toString()) as object,
    ).filter((name) => name !== "__metadata__");
    const whole = { weight_map: Object.fromEntries(tensors.map((name) => [name, shard])) };
    writeFileSync(index, JSON.stringify(whole));
    const run = await push(hub, folder);
    expect(run.status, run.stderr).toBe(0);
    const { files } = hub.writes.branch(REPO);
    expect(files.get(shard)?.large).toBe(true);
    expect(textAt(hub, "model.safetensors.index.json")).toBe(JSON.stringify(whole));
    expect(files.has("pytorch_model.bin")).toBe(false);
  });
  it("a part that is cut is sent again, alone", async () => {
    const cut: Fault = {
      host: "storage",
      at: /^\/put\/\w+\/3$/,
      strike: ({ request }) => void request.once("data", () => request.destroy()),
    };
    const hub = await startPushHub({ chunkSize: 1_000_000 }, [cut]);
    const run = await push(hub, modelFolder());
    expect(run.status, run.stderr).toBe(0);
    expect(hub.seen.filter(({ method }) => method === "PUT")).toHaveLength(7);
  });
  it("from TypeScript", async () => {
    const hub = await startPushHub();
    const settings = {
      endpoint: hub.url,
      token: { value: WRITE_TOKEN, source: "test" },
      cacheDir: "",
      offline: false,
      metadataTimeoutMs: 5000,
      idleTimeoutMs: 5000,
      symlinks: true,
    };
    const { commit } = await pushFolder(modelFolder(), REPO, { settings, baseModel: "none" });
    expect(hub.writes.branch(REPO)).toMatchObject({
      id: commit,
      commits: [{ summary: "Upload model with qdora" }],
    });
  });
});

const root = storyFolder();
let count = 0;
function storyDir(files: Readonly<Record<string, string>>): string {
  count++;
  const folder = join(root, `folder-${count}`);
  mkdirSync(folder);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}
function unfinished(): string {
  const folder = storyDir({ "qdora_config.yaml": "x: 1" });
  for (const step of [2, 10]) mkdirSync(join(folder, `checkpoint-${step}`));
  return folder;
}
function without(name: string): string {
  const folder = adapterFolder();
  rmSync(join(folder, name));
  return folder;
}
/** The first value becomes NaN. */
function withNan(): string {
  const path = join(adapterFolder(), "adapter_model.safetensors");
  const bytes = readFileSync(path);
  bytes.writeFloatLE(NaN, 8 + Number(bytes.readBigUInt64LE(0)));
  writeFileSync(path, bytes);
  return join(path, "..");
}
function modelFolder(): string {
  const folder = storyDir({
    "README.md": `---\nbase_model: ${BASE}\n---\n\n# x\n`,
    "pytorch_model.bin": "x",
    "training_args.json": "{}",
    "model.safetensors.index.json": '{"weight_map": {}}',
  });
  for (const name of [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ])
    writeFileSync(join(folder, name), readFileSync(join("models/tiny", name)));
  return folder;
}
