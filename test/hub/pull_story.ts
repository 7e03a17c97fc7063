/** `qdora pull` as a user starts it, against a mock Hub, with a cache and a home of its own. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import { qdora, type Finished } from "../stories/qdora.js";
import { large, small, type MockFile, type MockHub } from "./mock_hub.js";

/** A model repository as they are, with things that training does not need. */
export const FILES: Readonly<Record<string, MockFile>> = {
  "README.md": small("# tiny"),
  "config.json": small('{"model_type": "llama"}'),
  "tokenizer.json": small("{}"),
  "model.safetensors": large(600_000),
  "pytorch_model.bin": large(1000, 7),
  "onnx/model.safetensors": large(500, 8),
};

export interface Cache {
  /** HF_HOME. */
  readonly home: string;
  /** The cache folder of acme/tiny. */
  readonly folder: string;
  readonly blobs: () => readonly string[];
  readonly pull: (
    hub: Pick<MockHub, "url">,
    args?: readonly string[],
    env?: NodeJS.ProcessEnv,
  ) => Promise<Finished>;
}

const HUB_VARIABLES = [
  "HF_TOKEN",
  "HUGGING_FACE_HUB_TOKEN",
  "HF_TOKEN_PATH",
  "HF_HUB_CACHE",
  "HUGGINGFACE_HUB_CACHE",
  "HF_HUB_OFFLINE",
  "TRANSFORMERS_OFFLINE",
  "HF_HUB_DISABLE_SYMLINKS",
  "HF_HUB_DISABLE_IMPLICIT_TOKEN",
  "HF_HUB_ETAG_TIMEOUT",
];

/** The environment of a user with this home and Hub, and nothing else of the tester's. */
export const hubEnvironment = (home: string, url: string): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(HUB_VARIABLES.map((name) => [name, undefined])),
  HF_HOME: home,
  HF_ENDPOINT: url,
  HF_HUB_DOWNLOAD_TIMEOUT: "1",
});

const refuseDawn = `export const resolve = (name, context, next) => {
  if (name === "webgpu") throw new Error("Dawn was loaded");
  return next(name, context);
};`;
const register = `import { register } from "node:module"; register("data:text/javascript,${encodeURIComponent(refuseDawn)}");`;
/** NODE_OPTIONS under which a command that loads Dawn fails. */
export const REFUSING_DAWN = `--import=data:text/javascript,${encodeURIComponent(register)}`;

const homes: string[] = [];
afterAll(() => homes.forEach((home) => rmSync(home, { recursive: true, force: true })));

/** An empty cache that is gone after the file's tests. */
export function newCache(): Cache {
  const home = mkdtempSync(join(tmpdir(), "qdora-hub-"));
  homes.push(home);
  const folder = join(home, "hub", "models--acme--tiny");
  return {
    home,
    folder,
    blobs: () => readdirSync(join(folder, "blobs")).toSorted(),
    pull: async (hub, args = [], env = {}) => {
      const run = await qdora(["pull", "acme/tiny", ...args], {
        env: { ...hubEnvironment(home, hub.url), ...env },
      });
      // Neither Node's warnings (of listeners that pile up) nor stack traces.
      expect(run.stderr).not.toMatch(/Warning:|^\s+at /m);
      return run;
    },
  };
}
