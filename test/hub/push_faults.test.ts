/** What tokens, a broken network and other people do to `qdora push`. */
import type { ServerResponse } from "node:http";
import { describe, expect, it } from "vitest";
import { sendError, type Fault } from "./mock_hub.js";
import { READ_TOKEN, WRITE_TOKEN } from "./mock_writes.js";
import { adapterFolder, expectRefusedByHub, push, REPO, startPushHub } from "./push_story.js";

/** An answer to an upload whose bytes have all come: one that comes sooner races with the connection's end. */
const afterBody =
  (answer: (response: ServerResponse) => void): Fault["strike"] =>
  ({ request, response }) =>
    void request.resume().on("end", () => answer(response));

describe.concurrent("tokens", () => {
  it("that may only read, for a new and for an existing repository", async () => {
    const env = { HF_TOKEN: READ_TOKEN };
    for (const options of [{}, { repos: { [REPO]: {} } }]) {
      const hub = await startPushHub(options);
      const run = await push(hub, adapterFolder(), [], { env });
      expectRefusedByHub(
        run,
        /acme\/tiny-dora: the token in HF_TOKEN may not write there \(403: You need write access\)\nhint: use a token with write access to acme/,
      );
      expect(hub.writes.objects.size).toBe(0);
    }
  });
  it("that the Hub does not know", async () => {
    const hub = await startPushHub();
    const run = await push(hub, adapterFolder(), [], { env: { HF_TOKEN: "hf_other" } });
    expectRefusedByHub(run, /token: the Hub does not (know|accept) the token in HF_TOKEN/);
    expect(run.stderr).not.toContain("hf_other");
  });
  it("go to no other host that the Hub redirects to", async () => {
    const other = await startPushHub();
    const fault: Fault = {
      host: "hub",
      at: /preupload/,
      strike: ({ response }) => void response.writeHead(307, { location: `${other.url}/api/x` }).end(),
    };
    const hub = await startPushHub({}, [fault]);
    expectRefusedByHub(
      await push(hub, adapterFolder()),
      /redirects what is sent to 127\.0\.0\.1:\d+, and was not followed/,
    );
    expect(other.seen).toEqual([]);
    const asked: Fault = { ...fault, at: /^\/api\/models\/acme\/tiny-dora$/ };
    const second = await startPushHub({ repos: { [REPO]: {} } }, [asked]);
    await push(second, adapterFolder());
    expect(other.seen.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });
  it("are followed within the Hub, for a repository that was renamed", async () => {
    const fault: Fault = {
      host: "hub",
      at: /preupload/,
      strike: ({ response, seen }) => void response.writeHead(307, { location: `${seen.url}?moved` }).end(),
    };
    const hub = await startPushHub({}, [fault]);
    const run = await push(hub, adapterFolder());
    expect(run.status, run.stderr).toBe(0);
    expect(hub.seen.find(({ url }) => url.endsWith("?moved"))?.headers.authorization).toBe(
      `Bearer ${WRITE_TOKEN}`,
    );
  });
});

describe.concurrent("the network", () => {
  const PUT = /^\/put\//;
  it("an upload that is cut, and one that stalls, are sent again", async () => {
    const cut: Fault = {
      host: "storage",
      at: PUT,
      strike: ({ request }) => void request.once("data", () => request.destroy()),
    };
    const stall: Fault = { host: "storage", at: PUT, strike: ({ request }) => void request.resume() };
    const hub = await startPushHub({}, [cut, stall]);
    const run = await push(hub, adapterFolder());
    expect(run.status, run.stderr).toBe(0);
    expect(run.stderr).toMatch(/cut the connection; trying again in/);
    expect(run.stderr).toMatch(/does not confirm the upload for 6 s; trying again/);
    expect(hub.seen.filter(({ host }) => host === "storage")).toHaveLength(3);
    expect(hub.writes.branch(REPO).commits).toHaveLength(1);
  });
  it("an address that has expired is asked for anew, not for ever", async () => {
    const expired: Fault = {
      host: "storage",
      at: PUT,
      strike: afterBody((response) => sendError(response, 403)),
    };
    const hub = await startPushHub({}, [expired]);
    const run = await push(hub, adapterFolder());
    expect(run.status, run.stderr).toBe(0);
    expect(hub.seen.filter(({ url }) => url.endsWith("/objects/batch"))).toHaveLength(2);
    const never = await startPushHub({}, [{ ...expired, times: 99 }]);
    expectRefusedByHub(
      await push(never, adapterFolder()),
      /the storage behind the Hub refuses the upload \(403\)/,
    );
    expect(never.seen.filter(({ method }) => method === "PUT")).toHaveLength(3);
    expect(never.writes.branch(REPO).commits).toEqual([]);
  });
  it("a storage that stays broken ends it, with nothing committed", async () => {
    const broken: Fault = {
      host: "storage",
      at: PUT,
      times: 99,
      strike: afterBody((response) => {
        response.setHeader("retry-after", "0");
        sendError(response, 503);
      }),
    };
    const hub = await startPushHub({}, [broken]);
    expectRefusedByHub(
      await push(hub, adapterFolder()),
      /the storage behind the Hub fails \(503\)\nhint: .*run again/,
    );
    expect(hub.seen.filter(({ method }) => method === "PUT")).toHaveLength(5);
    expect(hub.writes.branch(REPO).commits).toEqual([]);
  });
  it("a commit whose answer is lost is found, and not made twice", async () => {
    const lost: Fault = {
      host: "hub",
      at: /\/commit\//,
      strike: ({ response, serve }) => {
        response.writeHead = () => response.destroy();
        serve();
      },
    };
    const hub = await startPushHub({}, [lost]);
    const run = await push(hub, adapterFolder(), ["--json"]);
    expect(run.status, run.stderr).toBe(0);
    const { id, commits } = hub.writes.branch(REPO);
    expect(commits).toHaveLength(1);
    expect(JSON.parse(run.stdout)).toMatchObject({ commit: id });
    expect(hub.seen.filter(({ url }) => url.includes("/commit/"))).toHaveLength(1);
  });
  it("somebody else commits at the same time", async () => {
    const hub = await startPushHub({ repos: { [REPO]: {} } }, [
      {
        host: "hub",
        at: /\/commit\//,
        strike: ({ serve }) => {
          hub.writes.move(REPO);
          serve();
        },
      },
    ]);
    expectRefusedByHub(
      await push(hub, adapterFolder()),
      /somebody else committed to "main" at the same time/,
    );
    expect(hub.writes.branch(REPO).commits).toEqual([]);
  });
  it.each(["SIGINT", "SIGTERM"] as const)("%s while it uploads commits nothing", async (signal) => {
    const hub = await startPushHub({}, [
      { host: "storage", at: PUT, times: 99, strike: ({ request }) => void request.resume() },
    ]);
    const timer: { at?: NodeJS.Timeout } = {};
    const run = await push(hub, adapterFolder(), ["--json"], {
      env: { HF_HUB_DOWNLOAD_TIMEOUT: "60" },
      onStart: (child) => {
        timer.at = setInterval(() => {
          if (!hub.seen.some(({ method }) => method === "PUT")) return;
          clearInterval(timer.at);
          child.kill(signal);
        }, 20);
      },
    });
    expect(run.status).toBe(signal === "SIGINT" ? 130 : 143);
    expect(run.stderr).toMatch(new RegExp(`${signal}: stopped; nothing was committed\n$`));
    expect(run.stdout).toBe("");
    expect(hub.writes.branch(REPO).commits).toEqual([]);
  });
});
