/** Two pulls at once, and locks of processes that are no more. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { thisProcess } from "../../src/formats/process_identity.js";
import { withLock, type LockTimes } from "../../src/hub/lock.js";
import { hashOf, startMockHub, type Fault } from "./mock_hub.js";
import { FILES, hubEnvironment, newCache } from "./pull_story.js";

const MODEL = FILES["model.safetensors"]!;
/** Sends the weights piece by piece; `until` some bytes, after which nothing comes any more. */
const slowly = (times: number, until = Infinity): Fault => ({
  host: "storage",
  at: /model\.safetensors$/,
  times,
  strike: ({ response }) => {
    response.writeHead(200, { etag: '"x"' });
    let at = 0;
    const timer = setInterval(() => {
      if (at >= until) return;
      response.write(MODEL.bytes.subarray(at, at + 50_000));
      at += 50_000;
      if (at < MODEL.bytes.length) return;
      clearInterval(timer);
      response.end();
    }, 150);
    response.on("close", () => clearInterval(timer));
  },
});

/** Starts a pull and ends it with a signal when the bytes that come have had time to arrive. */
async function pullAndEnd(
  home: string,
  url: string,
  signal: NodeJS.Signals,
): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, [resolve("dist/cli.js"), "pull", "acme/tiny"], {
    env: { ...process.env, ...hubEnvironment(home, url) },
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const lock = join(home, "hub", ".locks", "models--acme--tiny", "qdora.lock");
  const partial = join(home, "hub", "models--acme--tiny", "blobs", `${hashOf(MODEL)}.incomplete`);
  while (!existsSync(lock) || !existsSync(partial)) await new Promise((done) => setTimeout(done, 20));
  await new Promise((done) => setTimeout(done, 1500));
  child.kill(signal);
  const code = await new Promise<number | null>((done) => child.on("close", done));
  return { code, stderr };
}

describe.concurrent("two processes", () => {
  it("at once: each file is downloaded once, both end well", async () => {
    const hub = await startMockHub({ files: FILES, faults: [slowly(1)] });
    const cache = newCache();
    const runs = await Promise.all([cache.pull(hub, ["--json"]), cache.pull(hub, ["--json"])]);
    for (const run of runs) expect(run.status, run.stderr).toBe(0);
    expect(runs[0].stdout).toBe(runs[1].stdout);
    const asked = hub.seen.filter(({ url }) => url.includes("/resolve/"));
    expect(asked).toHaveLength(3);
    expect(
      runs.filter(({ stderr }) => /process \d+ pulls acme\/tiny, too: waiting for it/.test(stderr)),
    ).toHaveLength(1);
  });
  it("killed with -9: the next takes the lock at once and goes on", async () => {
    const hub = await startMockHub({ files: FILES, faults: [slowly(1, 100_000)] });
    const cache = newCache();
    expect((await pullAndEnd(cache.home, hub.url, "SIGKILL")).code).toBeNull();
    const next = await cache.pull(hub);
    expect(next.status, next.stderr).toBe(0);
    expect(next.stderr).not.toMatch(/waiting for it/);
  });
  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s keeps what has come and says so", async (signal, exit) => {
    const hub = await startMockHub({ files: FILES, faults: [slowly(1, 100_000)] });
    const cache = newCache();
    const { code, stderr } = await pullAndEnd(cache.home, hub.url, signal);
    expect(code).toBe(exit);
    expect(stderr).toMatch(new RegExp(`${signal}: stopped; run again to go on from here`));
    const partial = join(cache.folder, "blobs", `${hashOf(MODEL)}.incomplete`);
    const { size } = statSync(partial);
    expect(size).toBeGreaterThanOrEqual(50_000);
    expect(existsSync(join(cache.home, "hub", ".locks", "models--acme--tiny", "qdora.lock"))).toBe(false);
    expect((await cache.pull(hub)).status).toBe(0);
    expect(hub.seen.at(-1)!.headers.range).toBe(`bytes=${size}-`);
  });
});

describe("a lock that lies there", () => {
  const own = thisProcess();
  const TIMES: LockTimes = { touchMs: 50, abandonedMs: 600, stuckMs: 1200 };
  const signal = new AbortController().signal;
  /** What happens to one who wants a lock with this content. */
  const take = async (name: string, content: string): Promise<string> => {
    const path = join(newCache().home, name, "qdora.lock");
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    let waited = "";
    const got = await withLock(
      path,
      { signal, onWait: (holder) => (waited = ` after waiting for ${holder}`) },
      async () => {
        expect(JSON.parse(readFileSync(path, "utf8"))).toMatchObject(own);
        return "taken";
      },
      TIMES,
    );
    expect(existsSync(path)).toBe(false);
    return got + waited;
  };
  const holder = (change: object): string => JSON.stringify({ ...own, key: "x", ...change });

  it.runIf(process.platform === "linux")("of a pid that another process has now", async () => {
    expect(await take("reused", holder({ started: "1" }))).toBe("taken");
  });
  it("of a process that is no more", async () => {
    const child = spawn(process.execPath, ["-e", ""]);
    await new Promise((done) => child.on("close", done));
    expect(await take("gone", holder({ pid: child.pid }))).toBe("taken");
  });
  it("of this machine before it was started again", async () => {
    expect(await take("boot", holder({ boot: "another" }))).toBe("taken");
  });
  it("of another machine that does not touch it any more", async () => {
    expect(await take("host", holder({ host: `${hostname()}-2` }))).toMatch(
      /^taken after waiting for process \d+ on "/,
    );
  });
  it("of another container on this machine that does not touch it any more", async () => {
    expect(await take("container", holder({ pidSpace: "pid:[1]" }))).toMatch(
      /^taken after waiting for process \d+$/,
    );
  });
  it.each(["", "{", "[]", '{"pid":-1}', "null"])("with the content %j", async (content) => {
    expect(await take("torn", content)).toBe("taken after waiting for a process");
  });
  it("of a process that runs but does not go on: an error", async () => {
    const other = spawn("sleep", ["60"]);
    try {
      const started = readFileSync(`/proc/${other.pid}/stat`, "utf8").split(") ")[1]!.split(" ")[19]!;
      await expect(take("stopped", holder({ pid: other.pid, started }))).rejects.toThrow(
        /is held by process \d+, which does not go on/,
      );
    } finally {
      other.kill();
    }
  });
  it("that somebody touches is respected", async () => {
    const path = join(tmpdir(), `qdora-lock-${process.pid}`);
    writeFileSync(path, holder({ host: "elsewhere" }));
    const timer = setInterval(() => utimesSync(path, new Date(), new Date()), 50);
    const wait = withLock(path, { signal, onWait: () => undefined }, async () => performance.now(), TIMES);
    await new Promise((done) => setTimeout(done, 1500));
    clearInterval(timer);
    const released = performance.now();
    expect(await wait).toBeGreaterThan(released);
  });
  it("ten at once: one after the other", async () => {
    const path = join(newCache().home, "qdora.lock");
    writeFileSync(path, holder({ boot: "another" }));
    let [inside, most] = [0, 0];
    const body = async (): Promise<void> => {
      most = Math.max(most, ++inside);
      await new Promise((done) => setTimeout(done, 10));
      inside--;
    };
    await Promise.all(
      Array.from({ length: 10 }, () => withLock(path, { signal, onWait: () => undefined }, body)),
    );
    expect(most).toBe(1);
  });
});
