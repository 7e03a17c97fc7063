/** `qdora plan --model ORG/NAME` against a mock Hub: headers only, and the plan of the same model as a folder. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { expectRefused, qdora, storyFolder, TINY, writeRows, type Finished } from "../stories/qdora.js";
import {
  closedUrl,
  COMMIT,
  large,
  sendError,
  small,
  startMockHub,
  type Fault,
  type MockFile,
  type MockHub,
  type MockOptions,
} from "./mock_hub.js";
import { hubEnvironment, newCache, REFUSING_DAWN } from "./pull_story.js";

const SHARDED = resolve("test/fixtures/models/qwen3");
const NF4 = resolve("test/fixtures/nf4/bnb_checkpoint");
const NF4_SINGLE = resolve("test/fixtures/nf4/bnb_checkpoint_f32_single");
const WEIGHTS = /model[^/]*\.safetensors$/;
const folder = storyFolder();
const ROWS = writeRows(join(folder, "rows.jsonl"), [
  { text: "Rain over the sea, and fog." },
  { text: "Fog." },
]);

type Files = Readonly<Record<string, MockFile>>;

const filesOf = (model: string): Files =>
  Object.fromEntries(
    readdirSync(model, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }): [string, MockFile] => [
        name,
        { bytes: readFileSync(join(model, name)), large: name.endsWith(".safetensors") },
      ]),
  );
/** The same files, one of them with other bytes. */
const changed = (files: Files, name: string, change: (bytes: Buffer) => Buffer): Files => {
  const { bytes, large: isLarge } = files[name]!;
  return { ...files, [name]: { bytes: change(Buffer.from(bytes)), large: isLarge } };
};
const without = (files: Files, name: string): Files =>
  Object.fromEntries(Object.entries(files).filter(([path]) => path !== name));

/** Caches of tokens are apart, so that neither plan counts what the other has tokenised; no run has left its rates there. */
const planOf = (model: string, env: NodeJS.ProcessEnv, ...flags: readonly string[]): Promise<Finished> =>
  qdora(["plan", "--model", model, "--max-seq-length", "256", "--json", ...flags], {
    env: { QDORA_CACHE: join(folder, model === "acme/tiny" ? "at-hub" : "at-folder"), ...env },
  });

interface Story {
  readonly run: Finished;
  readonly hub: MockHub;
  readonly home: string;
}

async function planAtHub(
  files: Files,
  {
    flags = [],
    env = {},
    ...more
  }: Partial<MockOptions> & { readonly flags?: readonly string[]; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<Story> {
  const hub = await startMockHub({ files, ...more });
  const { home } = newCache();
  const run = await planOf("acme/tiny", { ...hubEnvironment(home, hub.url), ...env }, ...flags);
  expect(run.stderr).not.toMatch(/Warning:|^\s+at /m);
  return { run, hub, home };
}

const servedBytes = (hub: MockHub): number => hub.seen.reduce((sum, { bytes }) => sum + bytes, 0);
const weightRequests = (hub: MockHub) =>
  hub.seen.filter(({ host, url }) => host === "storage" && WEIGHTS.test(new URL(url, "http://x").pathname));
const headerBytes = ({ bytes }: MockFile): number => 8 + Number(bytes.readBigUInt64LE(0));

async function expectPlanOf(model: string, { run }: Story, ...flags: readonly string[]): Promise<void> {
  expect(run.status, run.stderr).toBe(0);
  const there = await planOf(model, {}, ...flags);
  expect(there.status, there.stderr).toBe(0);
  expect(JSON.parse(run.stdout)).toEqual(JSON.parse(there.stdout));
}

describe.concurrent("headers only", () => {
  it.each([
    ["one file", TINY],
    ["shards", SHARDED],
  ])("%s: not a byte of weights, and the plan of the folder", async (_, model) => {
    const files = filesOf(model);
    const story = await planAtHub(files);
    await expectPlanOf(model, story);
    expect(story.run.stderr).toMatch(/^model: no folder acme\/tiny, so acme\/tiny of the Hub$/m);
    expect(story.run.stderr).toMatch(/of configuration and headers; all \d+ files have \d/);
    expect(story.run.stderr).toMatch(/^acme\/tiny: QDoRA rank 16/m);
    const names = Object.keys(files).filter((name) => WEIGHTS.test(name));
    const asked = weightRequests(story.hub).map(({ url, headers }) => `${url} ${headers.range}`);
    const expected = names.flatMap((name) => {
      const url = `/signed/${name}?signature=secret`;
      return [`${url} bytes=0-7`, `${url} bytes=8-${headerBytes(files[name]!) - 1}`];
    });
    expect(asked.toSorted()).toEqual(expected.toSorted());
    const texts = ["config.json", "model.safetensors.index.json"].flatMap((name) => files[name] ?? []);
    expect(servedBytes(story.hub)).toBe(
      names.reduce((sum, name) => sum + headerBytes(files[name]!), 0) +
        texts.reduce((sum, { bytes }) => sum + bytes.length, 0),
    );
    expect(servedBytes(story.hub)).toBeLessThan(50_000);
    // The cache is not touched.
    expect(existsSync(join(story.home, "hub"))).toBe(false);
  });

  it.each([
    ["with double quantisation", NF4],
    ["without", NF4_SINGLE],
  ])("ready-made NF4 %s: the texts of its quantisation, and no weights", async (_, model) => {
    const files = filesOf(model);
    const story = await planAtHub(files);
    await expectPlanOf(model, story);
    const header = JSON.parse(
      files["model.safetensors"]!.bytes.subarray(8, headerBytes(files["model.safetensors"]!)).toString(),
    ) as Record<string, { data_offsets: [number, number] }>;
    const start = headerBytes(files["model.safetensors"]!);
    const states = Object.entries(header)
      .filter(([name]) => name.includes("quant_state"))
      .map(
        ([
          ,
          {
            data_offsets: [a, b],
          },
        ]) => `bytes=${start + a}-${start + b - 1}`,
      );
    expect(states).toHaveLength(7);
    const ranges = weightRequests(story.hub).map(({ headers }) => headers.range);
    expect(ranges.toSorted()).toEqual(["bytes=0-7", `bytes=8-${start - 1}`, ...states].toSorted());
  });

  it("with data, the tokenizer too: the plan of the run", async () => {
    const flags = ["--data", ROWS];
    const story = await planAtHub(filesOf(TINY), { flags });
    await expectPlanOf(TINY, story, ...flags);
    expect(servedBytes(story.hub)).toBeLessThan(200_000);
    expect(story.hub.seen.some(({ url }) => url.endsWith("/tokenizer.json"))).toBe(true);
  });

  it("with data that worker threads encode", async () => {
    const words = "Rain over the sea, and fog above it. ".repeat(1000);
    const rows = writeRows(
      join(folder, "large.jsonl"),
      Array.from({ length: 115 }, () => ({ text: words })),
    );
    const flags = ["--data", rows];
    const story = await planAtHub(filesOf(TINY), { flags });
    await expectPlanOf(TINY, story, ...flags);
  });

  it("a repository without a tokenizer plans its lengths, and says what data would need", async () => {
    const files = without(filesOf(TINY), "tokenizer.json");
    expect((await planAtHub(files)).run.status).toBe(0);
    const { run } = await planAtHub(files, { flags: ["--data", ROWS] });
    expectRefused(run, 1, /acme[/\\]tiny[/\\]tokenizer\.json: does not exist/);
  });

  it("another revision, and one that is not there", async () => {
    const story = await planAtHub(filesOf(TINY), { flags: ["--revision", COMMIT] });
    await expectPlanOf(TINY, story);
    const { run } = await planAtHub(filesOf(TINY), { flags: ["--revision", "v9"] });
    expectRefused(run, 1, /acme\/tiny: has no revision "v9"/);
  });

  it("the token goes to the Hub and nowhere else", async () => {
    const story = await planAtHub(filesOf(TINY), { token: "hf_secret", env: { HF_TOKEN: "hf_secret" } });
    await expectPlanOf(TINY, story);
    for (const { host, headers } of story.hub.seen)
      expect(headers.authorization).toBe(host === "hub" ? "Bearer hf_secret" : undefined);
  });

  it("tries again after cut and busy answers", async () => {
    const faults: Fault[] = [
      { host: "storage", at: WEIGHTS, strike: ({ serve }) => serve({ cutAfter: 3 }) },
      { host: "storage", at: WEIGHTS, strike: ({ response }) => sendError(response, 503) },
      { host: "hub", at: /config\.json$/, strike: ({ serve }) => serve({ cutAfter: 20 }) },
    ];
    const story = await planAtHub(filesOf(SHARDED), { faults });
    await expectPlanOf(SHARDED, story);
    expect(story.run.stderr).toMatch(/trying again in/);
  });

  it("never loads Dawn", async () => {
    const { run } = await planAtHub(filesOf(TINY), { env: { NODE_OPTIONS: REFUSING_DAWN } });
    expect(run.status, run.stderr).toBe(0);
  });
});

describe.concurrent("a server that ignores Range", () => {
  /** Sends the whole file slowly, and notes how far it came. */
  const slowly = (sent: { bytes: number }): Fault => ({
    host: "storage",
    at: WEIGHTS,
    times: 99,
    strike: ({ response, file }) => {
      const bytes = file!.bytes;
      response.writeHead(200, { "content-length": bytes.length });
      const send = (at: number): void => {
        if (response.destroyed || at >= bytes.length) return void response.end();
        response.write(bytes.subarray(at, at + 4096));
        sent.bytes += Math.min(4096, bytes.length - at);
        setTimeout(send, 10, at + 4096);
      };
      send(0);
    },
  });

  it("is left once the header is there", async () => {
    const sent = { bytes: 0 };
    const story = await planAtHub(filesOf(TINY), { faults: [slowly(sent)] });
    await expectPlanOf(TINY, story);
    expect(sent.bytes).toBeLessThan(filesOf(TINY)["model.safetensors"]!.bytes.length / 10);
  });

  it("cannot give the texts amid weights: refused, and not a way through the weights", async () => {
    const ignoring: Fault = {
      host: "storage",
      at: WEIGHTS,
      times: 99,
      strike: ({ serve }) => serve({ ignoreRange: true }),
    };
    const { run } = await planAtHub(filesOf(NF4), { faults: [ignoring] });
    expectRefused(
      run,
      1,
      /acme\/tiny\/model\.safetensors: 127\.0\.0\.1:\d+ sends whole files only.*\nhint: .*qdora pull acme\/tiny/,
    );
  });
});

describe.concurrent("refusals", () => {
  const refused = async (files: Files, says: RegExp, more: Partial<MockOptions> = {}): Promise<void> => {
    const { run, hub, home } = await planAtHub(files, more);
    expectRefused(run, 1, says);
    expect(servedBytes(hub)).toBeLessThan(200_000);
    expect(existsSync(join(home, "hub"))).toBe(false);
  };
  const tiny = filesOf(TINY);
  const WHOLE = "model.safetensors";
  const SHARD = "model-00003-of-00004.safetensors";

  it("gated", () =>
    refused(tiny, /acme\/tiny: is gated: .*\nhint: accept the conditions on http.*\/acme\/tiny/, {
      faults: [
        {
          host: "hub",
          at: /\/resolve\//,
          times: 99,
          strike: ({ response }) => sendError(response, 403, "GatedRepo"),
        },
      ],
    }));
  it("unknown, or private", () =>
    refused(tiny, /acme\/tiny: no such model on .*, or it is private/, { id: "acme/other" }));
  it("a shard that the index names and nobody has", () =>
    refused(
      without(filesOf(SHARDED), SHARD),
      /index\.json: names "model-00003-of-00004\.safetensors", which is not beside it\nhint: the repository is incomplete/,
    ));
  it("an index that does not fit the shards", () =>
    refused(
      changed(filesOf(SHARDED), "model.safetensors.index.json", (bytes) =>
        Buffer.from(bytes.toString().replace(/"model\.norm\.weight"/, '"model.other.weight"')),
      ),
      /does not hold the tensor "model\.other\.weight", though model\.safetensors\.index\.json says so/,
    ));
  it("pickles alone", () =>
    refused(
      { "config.json": small("{}"), "pytorch_model.bin": large(500) },
      /acme\/tiny: has no safetensors weights/,
    ));
  it("a model type that is not known, before any header is asked for", async () => {
    const { run, hub } = await planAtHub({ ...tiny, "config.json": small('{"model_type":"gpt9"}') });
    expectRefused(run, 1, /acme[/\\]tiny[/\\]config\.json: /);
    expect(weightRequests(hub)).toEqual([]);
  });
  it.each<[string, (bytes: Buffer) => Buffer, RegExp]>([
    [
      "a header that is longer than its file",
      (bytes) => (bytes.writeBigUInt64LE(90_000_000n), bytes),
      /model\.safetensors: its header would have 90000000 bytes, but the file has \d+/,
    ],
    [
      "a header beyond every limit",
      (bytes) => (bytes.writeBigUInt64LE(1n << 60n), bytes),
      /its header would have 1152921504606846976 bytes \(limit 100000000\)/,
    ],
    [
      "a header length that is too short",
      (bytes) => (bytes.writeBigUInt64LE(bytes.readBigUInt64LE(0) - 16n), bytes),
      /model\.safetensors: header: is not valid JSON/,
    ],
    [
      "bytes after the last tensor",
      (bytes) => Buffer.concat([bytes, Buffer.alloc(5)]),
      /model\.safetensors: has 5 bytes after its last tensor/,
    ],
    [
      "a file that was cut",
      (bytes) => bytes.subarray(0, -5),
      /tensor ".*": data_offsets \[\d+, \d+\] do not lie in the \d+ bytes of data/,
    ],
    ["a file of a few bytes", (bytes) => bytes.subarray(0, 5), /it has only 5 bytes/],
  ])("%s", (_, change, says) => refused(changed(tiny, WHOLE, change), says));
  it("a size in the listing that the Hub's answer contradicts", () => {
    const { bytes } = tiny[WHOLE]!;
    const lying: MockFile = { bytes, large: true, lies: { size: bytes.length + 8 } };
    return refused({ ...tiny, [WHOLE]: lying }, /the Hub's answer has the size "\d+", its listing another/);
  });
  it("a configuration that is not the one of the listing", () => {
    const { bytes } = tiny["config.json"]!;
    const lying: MockFile = { bytes, large: false, lies: { hash: "0".repeat(40) } };
    return refused(
      { ...tiny, "config.json": lying },
      /acme\/tiny\/config\.json: its bytes are wrong: git-sha1 [0-9a-f]{40}, expected 0{40}/,
    );
  });
  it("other parts than were asked for", () =>
    refused(tiny, /model\.safetensors: other bytes came than were asked for/, {
      faults: [
        {
          host: "storage",
          at: WEIGHTS,
          times: 99,
          strike: ({ serve }) => serve({ headers: { "content-range": "bytes 4-11/5516032" } }),
        },
      ],
    }));
});

describe("the cache", async () => {
  const hub = await startMockHub({ files: filesOf(TINY) });
  const { home, pull } = newCache();
  const env = hubEnvironment(home, hub.url);

  it("offline without a copy: refused", async () => {
    const run = await planOf("acme/tiny", { ...env, HF_HUB_OFFLINE: "1" });
    expectRefused(run, 1, /acme\/tiny: revision "main" is not in the cache .*, and HF_HUB_OFFLINE is set/);
    expect(hub.seen).toEqual([]);
  });
  it("a Hub that cannot be reached, without a copy: refused", async () => {
    const run = await planOf("acme/tiny", hubEnvironment(home, await closedUrl()));
    expectRefused(run, 1, /127\.0\.0\.1:\d+: cannot be reached/);
  });
  it("with a copy, no file is asked for", async () => {
    expect((await pull(hub)).status).toBe(0);
    const before = hub.seen.length;
    const run = await planOf("acme/tiny", env);
    await expectPlanOf(TINY, { run, hub, home });
    expect(run.stderr).toMatch(/^acme\/tiny at 0123456789ab: \d+ files, .*, in the cache$/m);
    expect(hub.seen.slice(before).filter(({ url }) => !url.startsWith("/api/"))).toEqual([]);
  });
  it("offline with a copy, nobody is asked", async () => {
    const before = hub.seen.length;
    const run = await planOf("acme/tiny", { ...env, HF_HUB_OFFLINE: "1" });
    await expectPlanOf(TINY, { run, hub, home });
    expect(run.stderr).toMatch(/offline: using the copy of acme\/tiny in the cache/);
    expect(hub.seen.length).toBe(before);
  });
  it("without a network, the copy is used with a message", async () => {
    const run = await planOf("acme/tiny", hubEnvironment(home, await closedUrl()));
    await expectPlanOf(TINY, { run, hub, home });
    expect(run.stderr).toMatch(/using the copy of acme\/tiny in the cache/);
  });
});
