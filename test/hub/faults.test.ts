/** What a network and a broken server do to a download, through the built command line. */
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  askedOf,
  cutAt,
  expectNothingKept,
  expectWhole,
  MODEL,
  pullWith,
  SIZE,
  WEIGHTS,
} from "./fault_story.js";
import { hashOf, sendError, startMockHub, type Fault } from "./mock_hub.js";
import { FILES } from "./pull_story.js";

describe.concurrent("cut connections", () => {
  it("goes on with Range and If-Range, at an address resolved anew", async () => {
    const story = await pullWith([cutAt(200_000)]);
    expectWhole(story);
    const [first, second] = story.asked;
    expect(first!.headers.range).toBeUndefined();
    expect(second!.headers.range).toBe("bytes=200000-");
    expect(second!.headers["if-range"]).toMatch(/^"storage-/);
    const resolved = story.hub.seen.filter(
      ({ host, url }) => host === "hub" && /resolve.*model\.saf/.test(url),
    );
    expect(resolved).toHaveLength(2);
    expect(story.run.stderr).toMatch(/cut the connection; trying again/);
  });
  it("is patient as long as bytes come: eight cuts", async () => {
    const story = await pullWith([cutAt(70_000, 8)]);
    expectWhole(story);
    expect(story.asked).toHaveLength(9);
  });
  it("gives up when nothing comes, and keeps what it has for the next run", async () => {
    const story = await pullWith([cutAt(300_000, 1), cutAt(0, 20)]);
    expectNothingKept(story, /error: 127\.0\.0\.1:\d+: cut the connection\nhint: /);
    const partial = join(story.cache.folder, "blobs", `${hashOf(MODEL)}.incomplete`);
    expect(statSync(partial).size).toBe(300_000);
    // Another process: the partial file is hashed again and then extended.
    const hub = await startMockHub({ files: FILES });
    expectWhole({ ...story, run: await story.cache.pull(hub) });
    expect(askedOf(hub).map(({ headers }) => [headers.range, headers["if-range"]])).toEqual([
      ["bytes=300000-", story.asked[1]!.headers["if-range"]],
    ]);
  });
  it("a body that ends early without an error", async () => {
    const short: Fault = {
      host: "storage",
      at: WEIGHTS,
      strike: ({ response }) =>
        void response.writeHead(200, { etag: '"x"' }).end(MODEL.bytes.subarray(0, 1000)),
    };
    const story = await pullWith([short]);
    expectWhole(story);
    expect(story.run.stderr).toMatch(/model\.safetensors: was cut at byte 1000 of 600000; trying again/);
  });
});

describe.concurrent("servers that do not resume", () => {
  it("an ignored range starts again", async () => {
    const ignored: Fault = {
      host: "storage",
      at: WEIGHTS,
      strike: ({ serve }) => serve({ ignoreRange: true }),
    };
    const story = await pullWith([cutAt(100_000), ignored]);
    expectWhole(story);
    expect(story.asked).toHaveLength(2);
  });
  it("an ETag that has changed starts again", async () => {
    const changed: Fault = { host: "storage", at: WEIGHTS, strike: ({ serve }) => serve({ etag: '"new"' }) };
    const story = await pullWith([cutAt(100_000), changed]);
    expectWhole(story);
    expect(story.asked).toHaveLength(2);
  });
  it("a range of other bytes is not taken", async () => {
    const other: Fault = {
      host: "storage",
      at: WEIGHTS,
      strike: ({ response }) =>
        void response
          .writeHead(206, { "content-range": `bytes 0-${SIZE - 1}/${SIZE}`, "content-length": SIZE })
          .end(MODEL.bytes),
    };
    expectWhole(await pullWith([cutAt(100_000), other]));
  });
  it("416 starts again", async () => {
    const none: Fault = {
      host: "storage",
      at: WEIGHTS,
      strike: ({ response }) => void response.writeHead(416).end(),
    };
    expectWhole(await pullWith([cutAt(100_000), none]));
  });
});

describe.concurrent("wrong bytes", () => {
  const flipped = Buffer.from(MODEL.bytes);
  flipped[SIZE - 1]! ^= 1;
  const wrong = (times: number): Fault => ({
    host: "storage",
    at: WEIGHTS,
    times,
    strike: ({ serve }) => serve({ bytes: flipped }),
  });
  it("once: removed, named, fetched again", async () => {
    const story = await pullWith([wrong(1)]);
    expectWhole(story);
    expect(story.run.stderr).toMatch(
      /^model\.safetensors: wrong bytes \(sha256\), removed; fetching it again$/m,
    );
  });
  it("always: removed and named, and nothing of it stays", async () => {
    const story = await pullWith([wrong(99)]);
    expectNothingKept(
      story,
      /error: model\.safetensors: its bytes are wrong and were removed: sha256 [0-9a-f]{64}, expected /,
    );
    expect(story.cache.blobs().some((name) => name.startsWith(hashOf(MODEL)))).toBe(false);
  });
  it("in a partial file of an earlier run: it starts from nothing", async () => {
    const first = await pullWith([cutAt(300_000, 1), cutAt(0, 20)]);
    const partial = join(first.cache.folder, "blobs", `${hashOf(MODEL)}.incomplete`);
    writeFileSync(partial, flipped.subarray(SIZE - 5000));
    const hub = await startMockHub({ files: FILES });
    const run = await first.cache.pull(hub);
    expectWhole({ ...first, run });
    expect(run.stderr).toMatch(/wrong bytes/);
  });
  it("in a small file: git's hash is checked", async () => {
    const fault: Fault = {
      at: /resolve.*config\.json$/,
      times: 99,
      strike: ({ serve }) => serve({ bytes: Buffer.from('{"model_type": "llbma"}') }),
    };
    expectNothingKept(
      await pullWith([fault]),
      /error: config\.json: its bytes are wrong and were removed: git-sha1/,
    );
  });
  it("too many bytes are not written to the disk", async () => {
    const flood: Fault = {
      host: "storage",
      at: WEIGHTS,
      times: 99,
      strike: ({ response }) => {
        response.writeHead(200);
        const more = (): void => {
          if (!response.destroyed) response.write(Buffer.alloc(1 << 20), more);
        };
        more();
      },
    };
    const story = await pullWith([flood]);
    expectNothingKept(story, /error: model\.safetensors: more than its 600000 bytes came/);
  });
  it("another length is refused before a byte is read", async () => {
    const fault: Fault = {
      host: "storage",
      at: WEIGHTS,
      times: 99,
      strike: ({ serve }) => serve({ bytes: Buffer.alloc(10) }),
    };
    expectNothingKept(
      await pullWith([fault]),
      /error: model\.safetensors: 10 bytes are sent, but it has 600000/,
    );
  });
  it("a Hub that contradicts its own listing", async () => {
    const fault: Fault = {
      host: "hub",
      at: /resolve.*model\.safetensors$/,
      times: 99,
      strike: ({ serve }) => {
        serve({ headers: { "x-linked-etag": '"../../../evil"' } });
      },
    };
    expectNothingKept(
      await pullWith([fault]),
      /error: model\.safetensors: the Hub's answer has the ETag ".*", its listing another/,
    );
  });
});

describe.concurrent("slow servers", () => {
  it("a stalled download goes on after the idle time", async () => {
    const stall: Fault = {
      host: "storage",
      at: WEIGHTS,
      strike: ({ response }) =>
        void response.writeHead(200, { etag: '"x"' }).write(MODEL.bytes.subarray(0, 100_000)),
    };
    const story = await pullWith([stall]);
    expectWhole(story);
    expect(story.run.stderr).toMatch(/sends nothing, or next to nothing, for 1 s; trying again/);
  });
  it("a drip does not hold it for ever", async () => {
    const drip: Fault = {
      host: "storage",
      at: WEIGHTS,
      times: 99,
      strike: ({ response, request }) => {
        response.writeHead(request.headers.range ? 206 : 200, {
          "content-range": `bytes ${/\d+/.exec(request.headers.range ?? "0")?.[0]}-${SIZE - 1}/${SIZE}`,
        });
        const timer = setInterval(() => response.write("x"), 100);
        response.on("close", () => clearInterval(timer));
      },
    };
    expectNothingKept(
      await pullWith([drip]),
      /sends nothing, or next to nothing, for 1 s\nhint: .*HF_HUB_DOWNLOAD_TIMEOUT/,
    );
  });
  it("slow but alive is good enough", async () => {
    const slow: Fault = {
      host: "storage",
      at: WEIGHTS,
      strike: ({ response }) => {
        response.writeHead(200, { etag: '"x"' });
        let at = 0;
        const timer = setInterval(() => {
          response.write(MODEL.bytes.subarray(at, at + 50_000));
          at += 50_000;
          if (at < SIZE) return;
          clearInterval(timer);
          response.end();
        }, 250);
      },
    };
    const story = await pullWith([slow]);
    expectWhole(story);
    expect(story.asked).toHaveLength(1);
  });
  it("no answer at all", async () => {
    const silent: Fault = { at: /revision/, times: 99, strike: () => undefined };
    const { run } = await pullWith([silent], { HF_HUB_ETAG_TIMEOUT: "0.3" });
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(
      /error: 127\.0\.0\.1:\d+: gives no answer for 0\.3 s\nhint: .*HF_HUB_ETAG_TIMEOUT/,
    );
  });
});

describe.concurrent("busy and broken servers", () => {
  const status = (code: number, at: RegExp, times: number, retryAfter?: string): Fault => ({
    at,
    times,
    strike: ({ response }) => {
      if (retryAfter !== undefined) response.setHeader("retry-after", retryAfter);
      sendError(response, code);
    },
  });
  it("429 waits as long as Retry-After says", async () => {
    const began = performance.now();
    const story = await pullWith([status(429, /revision/, 1, "2")]);
    expectWhole(story);
    expect(performance.now() - began).toBeGreaterThan(2000);
    expect(story.run.stderr).toMatch(/the Hub asks for fewer requests \(429\); trying again in 2 s/);
  });
  it("500 and 503, at the Hub and at the storage", async () => {
    expectWhole(await pullWith([status(500, /tree/, 2), status(503, WEIGHTS, 2)]));
  });
  it("500 for ever ends", async () => {
    const { run } = await pullWith([status(500, /tree/, 99, "0")]);
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/error: 127\.0\.0\.1:\d+: the Hub fails \(500\)\nhint: /);
  });
  it("a signed address that has expired is resolved again", async () => {
    const story = await pullWith([{ ...status(403, WEIGHTS, 1), host: "storage" }]);
    expectWhole(story);
    expect(story.asked).toHaveLength(2);
  });
});
