/** What `qdora pull` puts where: files, layout, choice, revision, environment. */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { expectRefused, qdora } from "../stories/qdora.js";
import { closedUrl, COMMIT, hashOf, large, small, startMockHub, type MockFile } from "./mock_hub.js";
import { FILES, hubEnvironment, newCache, REFUSING_DAWN } from "./pull_story.js";

const NOBODY = await closedUrl();
const WANTED = ["config.json", "model.safetensors", "tokenizer.json"];

describe("a first pull", async () => {
  const hub = await startMockHub({ files: FILES, pageSize: 2 });
  const cache = newCache();
  const run = await cache.pull(hub, ["--json"]);
  const snapshot = join(cache.folder, "snapshots", COMMIT);

  it("prints path and commit alone on stdout", () => {
    expect(run.status, run.stderr).toBe(0);
    expect(JSON.parse(run.stdout)).toEqual({ path: snapshot, commit: COMMIT });
    expect(run.stdout.trimEnd().split("\n")).toHaveLength(1);
  });
  it("takes what a trainer needs, over all pages of the listing", () => {
    expect(readdirSync(snapshot).toSorted()).toEqual(WANTED);
    for (const name of WANTED)
      expect(readFileSync(join(snapshot, name)).equals(FILES[name]!.bytes)).toBe(true);
  });
  it("has huggingface_hub's layout: blobs by hash, relative links, the ref", () => {
    expect(cache.blobs()).toEqual(WANTED.map((name) => hashOf(FILES[name]!)).toSorted());
    for (const name of WANTED)
      expect(readlinkSync(join(snapshot, name))).toBe(join("..", "..", "blobs", hashOf(FILES[name]!)));
    expect(readFileSync(join(cache.folder, "refs", "main"), "utf8")).toBe(COMMIT);
    expect(existsSync(join(cache.home, "hub", ".locks", "models--acme--tiny", "qdora.lock"))).toBe(false);
  });
  it("says what comes, file by file", () => {
    expect(run.stderr).toMatch(/acme\/tiny at 0123456789ab: 3 files, 600 kB, 600 kB to download/);
    expect(run.stderr).toMatch(/^model\.safetensors  600 kB$/m);
  });
  it("downloads nothing a second time", async () => {
    const before = hub.seen.length;
    const again = await cache.pull(hub);
    expect(again.status).toBe(0);
    expect(again.stderr).toMatch(/in the cache/);
    expect(hub.seen.slice(before).some(({ url }) => url.includes("/resolve/"))).toBe(false);
  });
  it("finds it without a network, and says so", async () => {
    const offline = await cache.pull({ url: NOBODY }, ["--json"]);
    expect(JSON.parse(offline.stdout)).toEqual({ path: snapshot, commit: COMMIT });
    expect(offline.stderr).toMatch(
      /^127\.0\.0\.1:\d+: cannot be reached \(ECONNREFUSED\); using the copy of acme\/tiny/m,
    );
  });
  it("asks nobody with HF_HUB_OFFLINE", async () => {
    const before = hub.seen.length;
    const offline = await cache.pull(hub, ["--json"], { HF_HUB_OFFLINE: "1" });
    expect(JSON.parse(offline.stdout)).toEqual({ path: snapshot, commit: COMMIT });
    expect(offline.stderr).toMatch(/offline: using the copy/);
    expect(hub.seen).toHaveLength(before);
  });
  it("mends a blob that was cut on the disk", async () => {
    writeFileSync(join(cache.folder, "blobs", hashOf(FILES["model.safetensors"]!)), "short");
    expect((await cache.pull(hub)).status).toBe(0);
    expect(readFileSync(join(snapshot, "model.safetensors")).equals(FILES["model.safetensors"]!.bytes)).toBe(
      true,
    );
  });
});

describe("the choice of files", () => {
  const names = async (files: Parameters<typeof startMockHub>[0]["files"], ...args: string[]) => {
    const cache = newCache();
    const run = await cache.pull(await startMockHub({ files }), args);
    const snapshot = join(cache.folder, "snapshots", COMMIT);
    return run.status === 0 ? readdirSync(snapshot, { recursive: true }).toSorted() : run.stderr;
  };
  it("--include replaces the default, also in folders", async () => {
    expect(await names(FILES, "--include", "*.md,onnx/*")).toEqual([
      "README.md",
      "onnx",
      "onnx/model.safetensors",
    ]);
  });
  it("--exclude takes away", async () => {
    expect(await names(FILES, "--exclude", "*.safetensors")).toEqual(["config.json", "tokenizer.json"]);
  });
  it("leaves out weights that are there twice", async () => {
    const files = {
      "config.json": small("{}"),
      "consolidated.safetensors": large(10),
      "model.safetensors.index.json": small("{}"),
      "model-00001-of-00002.safetensors": large(11),
      "model-00002-of-00002.safetensors": large(12),
      "model.fp16.safetensors": large(13),
    };
    expect(await names(files)).toEqual([
      "config.json",
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
      "model.safetensors.index.json",
    ]);
    expect(await names({ ...files, "model.safetensors": large(14) })).toEqual([
      "config.json",
      "model.safetensors",
      "model.safetensors.index.json",
    ]);
  });
  it("says when there are pickles only", async () => {
    expect(await names({ "config.json": small("{}"), "pytorch_model.bin": large(10) })).toMatch(
      /error: acme\/tiny: has no safetensors weights \(only the like of "pytorch_model\.bin"\)\nhint: /,
    );
  });
  it("pulls a data set's tables", async () => {
    const hub = await startMockHub({
      type: "datasets",
      files: { "README.md": small("x"), "data/train.parquet": large(100), ".gitattributes": small("x") },
    });
    const { home } = newCache();
    const run = await qdora(["pull", "acme/tiny", "--dataset", "--json"], {
      env: hubEnvironment(home, hub.url),
    });
    const { path } = JSON.parse(run.stdout) as { path: string };
    expect(path).toBe(join(home, "hub", "datasets--acme--tiny", "snapshots", COMMIT));
    expect(readdirSync(path, { recursive: true }).toSorted()).toEqual(["data", "data/train.parquet"]);
  });
});

describe("the environment", () => {
  it("HF_HUB_DISABLE_SYMLINKS, and file systems without links: files themselves", async () => {
    const twins: Readonly<Record<string, MockFile>> = { ...FILES, "vocab.json": FILES["tokenizer.json"]! };
    const hub = await startMockHub({ files: twins });
    const cache = newCache();
    expect((await cache.pull(hub, [], { HF_HUB_DISABLE_SYMLINKS: "1" })).status).toBe(0);
    const path = join(cache.folder, "snapshots", COMMIT);
    for (const name of [...WANTED, "vocab.json"]) {
      expect(lstatSync(join(path, name)).isFile()).toBe(true);
      expect(readFileSync(join(path, name)).equals(twins[name]!.bytes)).toBe(true);
    }
    const before = hub.seen.length;
    expect((await cache.pull(hub, [], { HF_HUB_DISABLE_SYMLINKS: "1" })).status).toBe(0);
    expect(hub.seen.slice(before).some(({ url }) => url.includes("/resolve/"))).toBe(false);
  });
  it("HF_HUB_CACHE wins over HF_HOME", async () => {
    const { home, pull } = newCache();
    const elsewhere = join(home, "elsewhere");
    const run = await pull(await startMockHub({ files: FILES }), ["--json"], { HF_HUB_CACHE: elsewhere });
    expect((JSON.parse(run.stdout) as { path: string }).path.startsWith(elsewhere)).toBe(true);
    expect(existsSync(join(home, "hub"))).toBe(false);
  });
  it.each([
    ["HF_TOKEN", (_: string) => ({ HF_TOKEN: " hf_secret\n" })],
    ["HF_TOKEN_PATH", (home: string) => ({ HF_TOKEN_PATH: join(home, "mine") })],
    ["the token file in HF_HOME", () => ({})],
  ])("reads a private repository with the token of %s", async (name, env) => {
    const hub = await startMockHub({ files: FILES, token: "hf_secret" });
    const { home, pull } = newCache();
    writeFileSync(
      join(home, name === "HF_TOKEN_PATH" ? "mine" : "token"),
      name === "HF_TOKEN" ? "hf_other" : "hf_secret\n",
    );
    const run = await pull(hub, [], env(home));
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).not.toContain("hf_secret");
    const storage = hub.seen.filter(({ host }) => host === "storage");
    expect(storage.length).toBeGreaterThan(0);
    expect(storage.every(({ headers }) => headers.authorization === undefined)).toBe(true);
  });
  it("refuses a token that no header can carry, without showing it", async () => {
    const run = await newCache().pull({ url: NOBODY }, [], { HF_TOKEN: "hf_sec ret\u0007" });
    expectRefused(run, 1, /error: HF_TOKEN: does not hold a token/);
    expect(run.stderr).not.toContain("hf_sec");
  });
  it.each([
    ["HF_ENDPOINT", "ftp://hub", /HF_ENDPOINT: is not an http or https address/],
    ["HF_ENDPOINT", "https://me:pass@hub", /HF_ENDPOINT: is not an http or https address/],
    ["HF_HUB_DOWNLOAD_TIMEOUT", "soon", /HF_HUB_DOWNLOAD_TIMEOUT: got "soon"/],
    ["HF_HUB_ETAG_TIMEOUT", "0", /HF_HUB_ETAG_TIMEOUT: got "0"/],
  ])("refuses %s=%s", async (name, value, says) => {
    expectRefused(await newCache().pull({ url: NOBODY }, [], { [name]: value }), 2, says);
  });
  it("without a cache and without a network: an error with a hint", async () => {
    const run = await newCache().pull({ url: NOBODY });
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(
      /error: 127\.0\.0\.1:\d+: cannot be reached \(ECONNREFUSED\)\nhint: check the network/,
    );
  });
  it("HF_HUB_OFFLINE with an empty cache", async () => {
    const run = await newCache().pull({ url: NOBODY }, [], { HF_HUB_OFFLINE: "1" });
    expectRefused(run, 1, /revision "main" is not in the cache .*HF_HUB_OFFLINE is set\nhint: unset/);
  });
});

describe("names and revisions", () => {
  it("a commit as revision needs no ref", async () => {
    const cache = newCache();
    const run = await cache.pull(await startMockHub({ files: FILES }), ["--json", "--revision", COMMIT]);
    expect(JSON.parse(run.stdout)).toMatchObject({ commit: COMMIT });
    expect(existsSync(join(cache.folder, "refs"))).toBe(false);
  });
  it("an unknown revision", async () => {
    const run = await newCache().pull(await startMockHub({ files: FILES }), ["--revision", "v9"]);
    expectRefused(run, 1, /acme\/tiny: has no revision "v9"\nhint: /);
  });
  it.each(["../../etc", "a\\b", "/main", "a b", "x\u0000y".replace("\u0000", "\u0001")])(
    "refuses the revision %j",
    async (revision) => {
      const run = await newCache().pull({ url: NOBODY }, ["--revision", revision]);
      expectRefused(run, 2, /revision: /);
    },
  );
  it.each(["tiny", "acme/../tiny", "acme/tiny/more", "acme/ti ny", "acme--x/tiny", "-a/b"])(
    "refuses the name %j",
    async (name) => {
      const run = await qdora(["pull", "--json", "--", name]);
      expectRefused(run, 2, /model: .* is not a name of the form ORG\/NAME/);
    },
  );
});

describe("a copy in the cache that is not whole", () => {
  const lacks =
    /error: acme\/tiny: the copy in the cache lacks "model\.safetensors", and the Hub was not asked\nhint: unset HF_HUB_OFFLINE/;
  it("a blob is gone: said offline, mended online", async () => {
    const hub = await startMockHub({ files: FILES });
    const cache = newCache();
    await cache.pull(hub);
    rmSync(join(cache.folder, "blobs", hashOf(FILES["model.safetensors"]!)));
    expectRefused(await cache.pull(hub, [], { HF_HUB_OFFLINE: "1" }), 1, lacks);
    expect((await cache.pull(hub)).status).toBe(0);
    expect((await cache.pull(hub, [], { HF_HUB_OFFLINE: "1" })).status).toBe(0);
  });
  it("huggingface_hub has noted more files than it downloaded", async () => {
    const hub = await startMockHub({ files: FILES });
    const cache = newCache();
    await cache.pull(hub, ["--include", "*.json"]);
    const noted = Object.entries(FILES).map(([name, { bytes }]) => [
      name,
      { size: bytes.length, blob_id: COMMIT },
    ]);
    mkdirSync(join(cache.folder, "trees"));
    const tree = { format_version: 1, files: Object.fromEntries(noted) as object };
    writeFileSync(join(cache.folder, "trees", `${COMMIT}.json`), JSON.stringify(tree));
    expectRefused(await cache.pull(hub, [], { HF_HUB_OFFLINE: "1" }), 1, lacks);
    expect((await cache.pull(hub, ["--include", "*.json"], { HF_HUB_OFFLINE: "1" })).status).toBe(0);
  });
  it("a ref that is no commit counts as none", async () => {
    const cache = newCache();
    const hub = await startMockHub({ files: FILES });
    await cache.pull(hub);
    writeFileSync(join(cache.folder, "refs", "main"), "../../../../etc");
    expectRefused(await cache.pull(hub, [], { HF_HUB_OFFLINE: "1" }), 1, /is not in the cache/);
    expect((await cache.pull(hub)).status).toBe(0);
    expect(readFileSync(join(cache.folder, "refs", "main"), "utf8")).toBe(COMMIT);
  });
});

it("shows no token in a stack trace", async () => {
  const { home } = newCache();
  const env = { ...hubEnvironment(home, NOBODY), HF_TOKEN: "hf_secret" };
  const run = await qdora(["--debug", "pull", "acme/tiny"], { env });
  expect(run.stderr).toMatch(/^\s+at /m);
  expect(run.stderr).not.toContain("hf_secret");
});

it("never loads Dawn", async () => {
  const { home, pull } = newCache();
  const run = await pull(await startMockHub({ files: FILES }), [], { NODE_OPTIONS: REFUSING_DAWN });
  expect(run.status, run.stderr).toBe(0);
  // The hook does what it says.
  const dawn = await qdora(["doctor"], { env: { NODE_OPTIONS: REFUSING_DAWN, HF_HOME: home } });
  expect(dawn.stderr).toMatch(/Dawn was loaded|does not load/);
});

it("keeps what is not its own: a FIFO in the place of a partial file is refused", async () => {
  const cache = newCache();
  mkdirSync(join(cache.folder, "blobs"), { recursive: true });
  const path = join(cache.folder, "blobs", `${hashOf(FILES["config.json"]!)}.incomplete`);
  execFileSync("mkfifo", [path]);
  const run = await cache.pull(await startMockHub({ files: FILES }));
  expect(run.status).toBe(1);
  expect(run.stderr).toMatch(
    /error: .*\.incomplete: (is not a regular file|cannot be opened)\nhint: delete it/,
  );
  rmSync(path);
});
