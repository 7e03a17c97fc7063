// The peers' packages, in a folder of their own under QDORA_CACHE: nothing here depends on them.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { cacheFolder } from "../../dist/program/tuner.js";

/** By peer: what is installed, exactly these versions. No script of a package is run. */
export const PACKAGES = {
  onnxruntime: { "onnxruntime-node": "1.30.0" },
  tfjs: { "@tensorflow/tfjs-core": "4.22.0", "@tensorflow/tfjs-backend-webgpu": "4.22.0" },
  jax: { "@jax-js/jax": "0.1.25" },
};

const names = (peer) => Object.entries(PACKAGES[peer]).map(([name, version]) => `${name}@${version}`);

/**
 * Installs a peer on first use. @returns the folder whose node_modules has it
 * @throws Error with npm's last line where it cannot be installed
 */
export function installPeer(peer, say) {
  const folder = join(cacheFolder(), "peers", names(peer).join("+").replaceAll("/", "-"));
  if (existsSync(join(folder, "node_modules"))) return folder;
  say(`installing ${names(peer).join(", ")} into ${folder}`);
  const work = `${folder}.tmp.${process.pid}`;
  try {
    mkdirSync(work, { recursive: true });
    writeFileSync(join(work, "package.json"), '{ "private": true }\n');
    const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    const npm = spawnSync("npm", ["install", ...flags, ...names(peer)], {
      cwd: work,
      encoding: "utf8",
      shell: process.platform === "win32",
    });
    if (npm.status !== 0) {
      const [reason] = (npm.stderr ?? "").trim().split("\n");
      throw new Error(`npm install failed: ${npm.error?.message ?? reason}`);
    }
    // Another process may have been faster; both folders hold the same packages.
    if (!existsSync(folder)) renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** Loads CommonJS packages of that folder. */
export const requireFrom = (folder) => createRequire(join(folder, "package.json"));

/** Versions of what is really there. */
export function installedVersions(peer, folder) {
  return Object.fromEntries(
    Object.keys(PACKAGES[peer]).map((name) => [
      name,
      JSON.parse(readFileSync(join(folder, "node_modules", name, "package.json"), "utf8")).version,
    ]),
  );
}
