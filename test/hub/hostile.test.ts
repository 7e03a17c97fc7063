/** Redirects, listings and refusals: what a Hub, or somebody who plays one, may say. Through the built command line. */
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { expectRefused } from "../stories/qdora.js";
import { expectNothingKept, expectWhole, MODEL, pullWith, WEIGHTS } from "./fault_story.js";
import {
  COMMIT,
  large,
  sendError,
  sendJson,
  small,
  startMockHub,
  type Fault,
  type MockFile,
} from "./mock_hub.js";
import { FILES, newCache } from "./pull_story.js";

describe.concurrent("redirects", () => {
  it("the token stays at the Hub's own origin", async () => {
    const story = await pullWith([], { HF_TOKEN: "hf_secret" }, { token: "hf_secret" });
    expectWhole(story);
    const hubSeen = story.hub.seen.filter(({ host }) => host === "hub");
    expect(hubSeen.every(({ headers }) => headers.authorization === "Bearer hf_secret")).toBe(true);
    expect(story.asked).toHaveLength(1);
    expect(story.asked[0]!.headers.authorization).toBeUndefined();
    expect(story.run.stderr + story.run.stdout).not.toMatch(/hf_secret|signature/);
  });
  it("not even back at the Hub after a detour", async () => {
    let home = "";
    const back: Fault = {
      host: "storage",
      at: WEIGHTS,
      strike: ({ response }) =>
        void response.writeHead(302, { location: `${home}/elsewhere/model.safetensors` }).end(),
    };
    const there: Fault = {
      host: "hub",
      at: /elsewhere/,
      strike: ({ response }) => void response.end(MODEL.bytes),
    };
    const hub = await startMockHub({ files: FILES, faults: [back, there], token: "hf_secret" });
    home = hub.url;
    const cache = newCache();
    const run = await cache.pull(hub, [], { HF_TOKEN: "hf_secret" });
    expect(run.status, run.stderr).toBe(0);
    expect(hub.seen.find(({ url }) => url.startsWith("/elsewhere"))!.headers.authorization).toBeUndefined();
  });
  it("a renamed repository keeps the token", async () => {
    const moved: Fault = {
      host: "hub",
      at: /^\/api\/models\/acme\/tiny\/revision\/main$/,
      strike: ({ response }) =>
        void response.writeHead(307, { location: `/api/models/acme/tiny/revision/${COMMIT}` }).end(),
    };
    expectWhole(await pullWith([moved], { HF_TOKEN: "hf_secret" }, { token: "hf_secret" }));
  });
  it.each([
    ["a loop", "?", /redirects more than 5 times/],
    ["a file", "file:///etc/passwd", /redirects to "file:"/],
    ["no address", "http://", /redirects to something that is no address/],
    ["an address with a password", "http://a:b@127.0.0.1/", /redirects to an address with a password/],
  ])("refuses %s", async (_, location, says) => {
    const fault: Fault = {
      at: /resolve.*config\.json$/,
      times: 99,
      strike: ({ response }) => void response.writeHead(302, { location }).end(),
    };
    expectNothingKept(await pullWith([fault]), says);
  });
});

describe.concurrent("hostile listings", () => {
  const withFile = (path: string, lies?: MockFile["lies"]): Record<string, MockFile> => ({
    ...FILES,
    [path]: lies ? { ...small("evil"), lies } : small("evil"),
  });
  it.each([
    "../../../evil.json",
    "/etc/evil.json",
    "a/../../evil.json",
    "..\\evil.json",
    "C:evil.json",
    "evil\u0000.json",
    "evil\u001b[2J.json",
    "a//evil.json",
    `${"x".repeat(300)}.json`,
  ])("refuses the file %j", async (path) => {
    const story = await pullWith([], {}, { files: withFile(path) });
    expectRefused(story.run, 1, /error: acme\/tiny: the Hub's listing has the file ".*", which /);
    expect(existsSync(story.cache.folder)).toBe(false);
  });
  it.each(["nul.json", "COM1", "ab:c.json", "end."])("refuses %j if it is wanted", async (path) => {
    const hub = await startMockHub({ files: withFile(path) });
    const cache = newCache();
    expectRefused(await cache.pull(hub, ["--include", "*"]), 1, /the file ".*" (is a device|has a)/);
    expect((await cache.pull(hub)).status).toBe(0);
  });
  it.each([
    ["a hash that is a path", { hash: "../../../../evil" }, /gives "config\.json" the hash/],
    ["a size below 0", { size: -1 }, /gives "config\.json" the size "-1"/],
    ["a size that is no number", { size: "9" }, /gives "config\.json" the size "9"/],
  ])("refuses %s", async (_, lies, says) => {
    expectRefused((await pullWith([], {}, { files: withFile("config.json", lies) })).run, 1, says);
  });
  it("refuses a commit that is no hash", async () => {
    const fault: Fault = {
      at: /revision\/main/,
      strike: ({ response }) => sendJson(response, { sha: "../../evil" }),
    };
    expectRefused((await pullWith([fault])).run, 1, /names the commit "\.\.\/\.\.\/evil", which is no hash/);
  });
  it.each([
    ["another host", "https://evil.example/api/models/acme/tiny/tree/x"],
    ["another path", "/api/models/evil"],
    ["a script", "javascript:alert(1)"],
  ])("refuses a next page at %s", async (_, target) => {
    const fault: Fault = {
      at: /\/tree\//,
      strike: ({ response }) => {
        response.setHeader("link", `<${target}>; rel="next"`);
        sendJson(response, []);
      },
    };
    expectRefused(
      (await pullWith([fault])).run,
      1,
      /the Hub's listing goes on at ".*", which is not the listing/,
    );
  });
  it("refuses pages without an end", async () => {
    let page = 0;
    const endless = (link: () => string): Fault => ({
      at: /\/tree\//,
      times: 9999,
      strike: ({ response }) => {
        response.setHeader("link", `<?cursor=${link()}>; rel="next"`);
        sendJson(response, []);
      },
    });
    expectRefused(
      (await pullWith([endless(() => String(page++))])).run,
      1,
      /listing does not come to an end/,
    );
    expectRefused((await pullWith([endless(() => "x")])).run, 1, /leads back to a page/);
  });
  it("refuses what is not JSON, and answers without an end", async () => {
    const page: Fault = {
      at: /revision/,
      strike: ({ response }) => void response.end("<html>log in</html>"),
    };
    expectRefused((await pullWith([page])).run, 1, /answers with something that is not JSON/);
    const flood: Fault = {
      at: /revision/,
      strike: ({ response }) => {
        const more = (): void => {
          if (!response.destroyed) response.write(Buffer.alloc(1 << 20, 32), more);
        };
        more();
      },
    };
    expectRefused((await pullWith([flood])).run, 1, /answers with more than 33554432 bytes/);
  });
  it("refuses more than the disk can hold, before the first byte", async () => {
    const { run, hub } = await pullWith(
      [],
      {},
      {
        files: { ...FILES, "model.safetensors": { ...large(10), lies: { size: 2 ** 52 } } },
      },
    );
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(
      /error: .*: the disk has too little space: 4503\d+ bytes are to come \(limit \d+\)\nhint: /,
    );
    expect(hub.seen.some(({ url }) => url.includes("/resolve/"))).toBe(false);
  });
});

describe.concurrent("repositories that may not be read", () => {
  const refusing = (code: number, errorCode: string | undefined, message?: string): Fault => ({
    at: /^\/api/,
    times: 99,
    strike: ({ response }) => sendError(response, code, errorCode, message),
  });
  it.each([
    [
      "gated, no token",
      refusing(401, "GatedRepo"),
      {},
      /acme\/tiny: is gated: .*\nhint: accept the conditions on http.*\/acme\/tiny, then set HF_TOKEN/,
    ],
    [
      "gated, with a token",
      refusing(403, "GatedRepo"),
      { HF_TOKEN: "hf_secret" },
      /is gated, and the account of the token in HF_TOKEN has no access\nhint: accept/,
    ],
    [
      "private or not there",
      refusing(401, "RepoNotFound"),
      {},
      /no such model on 127\.0\.0\.1:\d+, or it is private\nhint: check the name; for a private one set HF_TOKEN/,
    ],
    ["401 without a code", refusing(401, undefined), {}, /or it is private/],
    [
      "with a token that may not",
      refusing(404, "RepoNotFound"),
      { HF_TOKEN: "hf_secret" },
      /or it is private\nhint: check the name; the token in HF_TOKEN may not read it/,
    ],
    [
      "a token that is not known",
      refusing(401, undefined, "Invalid credentials in Authorization header"),
      { HF_TOKEN: "hf_secret" },
      /token: the Hub does not know the token in HF_TOKEN\nhint: /,
    ],
    [
      "forbidden",
      refusing(403, undefined, "no, hf_secret !"),
      { HF_TOKEN: "hf_secret" },
      /the Hub refuses it \(403: no, \*\*\*/,
    ],
  ])("%s", async (_, fault, env, says) => {
    const { run } = await pullWith([fault], env);
    expectRefused(run, 1, says);
    expect(run.stderr).not.toContain("hf_secret");
  });
  it("gated at the files only", async () => {
    const fault: Fault = {
      host: "hub",
      at: /\/resolve\//,
      times: 99,
      strike: ({ response }) => sendError(response, 403, "GatedRepo"),
    };
    expectNothingKept(await pullWith([fault]), /acme\/tiny: is gated/);
  });
  it("a file that is listed but not there", async () => {
    const fault: Fault = {
      host: "hub",
      at: /resolve.*config\.json$/,
      strike: ({ response }) => sendError(response, 404, "EntryNotFound"),
    };
    expectNothingKept(await pullWith([fault]), /acme\/tiny: has no file "config\.json"/);
  });
});
