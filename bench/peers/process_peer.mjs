// The near end of a peer's process: calls as promises, which fail when it ends.
import { fork } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Bounds every call: a product takes seconds at most, compiling it some more. */
const CALL_MS = 180_000;

/**
 * Where the software GPU's Vulkan loader lies. Our node finds it by its own library path; a library with a path of its own, as
 * onnxruntime's is, does not.
 */
function vulkanFolder() {
  if (process.env["QDORA_SOFTWARE_GPU"] !== "1") return undefined;
  const [root] = (process.env["VK_DRIVER_FILES"] ?? "").split("/usr/share/");
  const lib = join(root, "usr/lib");
  const found = readdirSync(lib, { withFileTypes: true }).find(
    (entry) => entry.isDirectory() && readdirSync(join(lib, entry.name)).includes("libvulkan.so.1"),
  );
  return found && join(lib, found.name);
}

/** @param packages folder of its packages. @returns { call(method, ...args), kill() } */
export function startPeer(name, packages = "") {
  const libraries = name === "onnxruntime" ? vulkanFolder() : undefined;
  const child = fork(join(dirname(fileURLToPath(import.meta.url)), "worker.mjs"), [name, packages], {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    env: { ...process.env, ...(libraries && { LD_LIBRARY_PATH: libraries }) },
  });
  const waiting = new Map();
  let [next, said, end] = [0, "", undefined];
  child.stderr.on("data", (text) => (said = (said + text).slice(-2000)));
  child.on("message", ({ id, value, error }) => {
    const { resolve, reject, timer } = waiting.get(id);
    clearTimeout(timer);
    waiting.delete(id);
    if (error === undefined) resolve(value);
    else reject(new Error(error));
  });
  const fail = (why) => {
    end = why;
    for (const { reject, timer } of waiting.values()) {
      clearTimeout(timer);
      reject(new Error(why));
    }
    waiting.clear();
  };
  child.on("error", (error) => fail(`its process does not start: ${error.message}`));
  child.on("close", (code, signal) => {
    const line =
      said
        .trim()
        .split("\n")
        .findLast((each) => /error/i.test(each)) ?? "";
    fail(`its process ended with ${signal ?? code}${line && `: ${line.trim()}`}`);
  });
  const call = (method, ...args) =>
    new Promise((resolve, reject) => {
      if (end) {
        reject(new Error(end));
        return;
      }
      const id = next++;
      const timer = setTimeout(() => {
        child.kill("SIGKILL");
        fail(`${method} took more than ${CALL_MS / 1000} s`);
      }, CALL_MS);
      waiting.set(id, { resolve, reject, timer });
      child.send({ id, method, args });
    });
  return { call, kill: () => void child.kill("SIGKILL") };
}
