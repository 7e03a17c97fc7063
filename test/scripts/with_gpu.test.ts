/** scripts/with-gpu.sh: the command runs as if it had been started alone, and refusals say what to do. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

const script = resolve("scripts/with-gpu.sh");
const folder = realpathSync(mkdtempSync(join(tmpdir(), "qdora-with-gpu-")));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

function withGpu(command: string[], env: NodeJS.ProcessEnv = {}, input = "") {
  return spawnSync("sh", [script, ...command], {
    cwd: folder,
    env: { ...process.env, ...env },
    input,
    encoding: "utf8",
  });
}

/** An environment in which no outer with-gpu.sh has set anything up. */
const untouched = { QDORA_SOFTWARE_GPU: "", VK_DRIVER_FILES: "" };

describe.skipIf(process.platform === "win32")("with-gpu.sh", () => {
  test("keeps folder, arguments, input and output", () => {
    const code =
      "process.stdin.pipe(process.stdout); console.log(JSON.stringify([process.cwd(), ...process.argv.slice(1)]))";
    const run = withGpu(["node", "-e", code, "--", "a  b", "", `"$x'`], {}, "from stdin");
    expect(run.stdout).toBe(`${JSON.stringify([folder, "a  b", "", `"$x'`])}\nfrom stdin`);
    expect(run.status).toBe(0);
  });

  test("keeps the exit code", () => {
    expect(withGpu(["sh", "-c", "exit 37"]).status).toBe(37);
  });

  test("is replaced by its command, so that signals reach it", async () => {
    const child = spawn("sh", [
      script,
      "node",
      "-e",
      "console.log(process.pid); setInterval(() => {}, 1000)",
    ]);
    const firstLine = await new Promise<string>((done) => {
      child.stdout.once("data", (data: Buffer) => {
        done(data.toString().trim());
      });
    });
    expect(Number(firstLine)).toBe(child.pid);
    child.kill("SIGTERM");
    const signal = await new Promise((done) => {
      child.once("exit", (_code, by) => {
        done(by);
      });
    });
    expect(signal).toBe("SIGTERM");
  });

  test.runIf(process.env["QDORA_SOFTWARE_GPU"] === "1").each(["software", "", "Mesa"])(
    "keeps malloc to one heap on a software GPU, unless told otherwise: QDORA_ADAPTER=%s",
    (wanted) => {
      const heaps = (given: string) =>
        withGpu(["sh", "-c", "echo $MALLOC_ARENA_MAX"], {
          QDORA_SOFTWARE_GPU: "",
          QDORA_ADAPTER: wanted,
          MALLOC_ARENA_MAX: given,
        }).stdout.trim();
      expect(heaps("")).toBe("1");
      expect(heaps("3")).toBe("3");
    },
  );

  test.runIf(existsSync("/proc/cpuinfo"))(
    "takes wide vectors where the processor has them, unless told otherwise",
    () => {
      const vectors = (options: string[], given: string) =>
        withGpu([...options, "sh", "-c", "echo $LP_NATIVE_VECTOR_WIDTH"], {
          LP_NATIVE_VECTOR_WIDTH: given,
        }).stdout.trim();
      const widest = readFileSync("/proc/cpuinfo", "utf8").includes(" avx512f ") ? "512" : "";
      expect(vectors(["--wide"], "")).toBe(widest);
      expect(vectors(["--wide", "--"], "128")).toBe("128");
      expect(vectors([], "")).toBe("");
    },
  );

  test("wants a command", () => {
    const run = withGpu([]);
    expect(run.status).toBe(2);
    expect(run.stdout).toBe("");
    expect(run.stderr).toMatch(/^usage: /);
  });

  test.runIf(process.env["QDORA_SOFTWARE_GPU"] === "1").each(["256 bits", "Mesa", "llvm-19"])(
    "takes an adapter by a part of its name or vendor: %s",
    (wanted) => {
      const run = withGpu(["node", "-p", "1"], { QDORA_ADAPTER: wanted });
      expect(run.stderr).not.toContain("error: gpu");
      expect(run.stdout).toBe("1\n");
    },
  );

  test.each(["no such gpu", "-"])("names an adapter that is not there: %s", (wanted) => {
    const run = withGpu(["node", "-p", "1"], { ...untouched, QDORA_ADAPTER: wanted });
    expect(run.status).toBe(1);
    expect(run.stdout).toBe("");
    expect(run.stderr).toMatch(new RegExp(`^error: gpu: .*QDORA_ADAPTER=${wanted}.*\\nhint: `));
  });

  test.skipIf(spawnSync("apt-get", ["--version"]).error !== undefined)(
    "says so when the packages cannot be fetched, and leaves nothing",
    () => {
      const cache = join(folder, "a cache");
      const run = withGpu(["node", "-p", "1"], {
        ...untouched,
        // A node bound to another cache would be taken as it is.
        PATH: (process.env["PATH"] ?? "")
          .split(":")
          .filter((part) => !part.includes("/software-gpu-"))
          .join(":"),
        QDORA_ADAPTER: "software",
        QDORA_CACHE: cache,
        QDORA_DEBIAN_MIRROR: "http://127.0.0.1:9/debian",
      });
      expect(run.status).toBe(1);
      expect(run.stdout).toBe("");
      expect(run.stderr).toMatch(
        /error: gpu: the packages of the software GPU could not be fetched: .*127\.0\.0\.1.*\nhint: /,
      );
      expect(readdirSync(cache).sort()).toEqual(["software-gpu.lock", "software-gpu.log"]);
    },
  );
});
