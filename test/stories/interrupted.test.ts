/** Runs that are stopped, killed or fail: what was trained stays, and goes on. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { finetune as library, type FinetuneOptions } from "../../src/index.js";
import { expectRefused, qdora, storyFolder, type Finished } from "./qdora.js";
import { checkpoints, copyUpTo, expectSameBytes, numbers, succeed, writeSettings } from "./training.js";

const folder = storyFolder();
const settings = writeSettings(folder);
const straight = join(folder, "straight");
/** A disk of some kB can be made. */
const CAN_MOUNT = canMount();
const finetune = (out: string, ...more: readonly string[]): string[] => [
  "finetune",
  "--config",
  settings,
  "--output-dir",
  out,
  ...more,
];
/** What is no result and no checkpoint of a run that was stopped. */
const STOPPED_FILES = ["metrics.jsonl", "qdora_config.yaml"];

beforeAll(async () => {
  await succeed(finetune(straight));
});

/** Runs and sends signals, each when stderr has said something for the first time. */
function withSignals(
  args: readonly string[],
  signals: readonly (readonly [when: string, signal: NodeJS.Signals])[],
): Promise<Finished> {
  let sent = 0;
  return qdora(args, {
    onText: (stderr, child) => {
      const next = signals[sent];
      if (!next || !stderr.includes(next[0])) return;
      sent += 1;
      child.kill(next[1]);
    },
  });
}

describe("a signal", () => {
  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)(
    "%s saves, ends with %d without an adapter, and the run goes on to the same bytes",
    async (signal, exit) => {
      const out = join(folder, signal);
      const run = await withSignals(finetune(out), [["step 3/20", signal]]);
      expect(run.status, run.stderr).toBe(exit);
      const [saved = ""] = checkpoints(out);
      expect(run.stderr).toContain(`${signal}: saving and stopping (again: at once)\n`);
      expect(run.stderr).toMatch(
        new RegExp(
          `error: finetune: stopped after step \\d+; saved in ${join(out, saved)}\nhint: .*--resume.*\n$`,
        ),
      );
      expect(readdirSync(out).toSorted()).toEqual([saved, ...STOPPED_FILES]);
      await succeed(finetune(out, "--resume"));
      expectSameBytes(straight, out, "adapter_model.safetensors");
      expect(numbers(out)).toEqual(numbers(straight));
    },
  );

  it("does so with moments in 8 bits and layers that pass through the GPU", async () => {
    const memory = ["--optimizer", "adamw8bit", "--stream-layers", "all", "--checkpoint-place", "host"];
    const [whole, cut] = [join(folder, "streamed"), join(folder, "streamed-cut")];
    await succeed(finetune(whole, ...memory));
    const run = await withSignals(finetune(cut, ...memory), [["step 2/20", "SIGTERM"]]);
    expect(run.status, run.stderr).toBe(143);
    // Where layers lie may change; it does not change the numbers.
    await succeed(finetune(cut, "--resume", "--optimizer", "adamw8bit"));
    expectSameBytes(whole, cut, "adapter_model.safetensors");
    const last = "checkpoint-20";
    expectSameBytes(join(whole, last), join(cut, last), "optimizer.safetensors");
  });

  it.each(["steps: 20", "gpu: "])(
    "while the run starts (%s) ends it, and leaves nothing behind",
    async (when) => {
      const out = join(folder, "starting");
      const run = await withSignals(finetune(out), [[when, "SIGTERM"]]);
      expect(run.status, run.stderr).toBe(143);
      expect(run.stderr).toMatch(
        /error: finetune: stopped before the first step; nothing new was saved\nhint: /,
      );
      expect(existsSync(out)).toBe(false);
    },
  );

  it("for the second time ends it at once", async () => {
    const out = join(folder, "twice");
    const run = await withSignals(finetune(out, "--max-steps", "1000"), [
      ["step 2/1000", "SIGINT"],
      ["saving and stopping", "SIGTERM"],
    ]);
    expect(run.status, run.stderr).toBe(143);
    const left = readdirSync(out);
    expect(left).not.toContain("adapter_model.safetensors");
    expect(left).not.toContain(".qdora.lock");
  });
});

describe("kill -9", () => {
  it("at any time costs no more than the steps since the last checkpoint", async () => {
    const out = join(folder, "killed");
    const args = finetune(out, "--save-steps", "1", "--save-total-limit", "2", "--resume");
    // While loading; between steps; while a checkpoint is written.
    for (const [when, wait] of [
      ["gpu: ", 20],
      ["step 2/", 0],
      ["saved ", 37],
      ["saved ", 61],
    ] as const) {
      let timer: NodeJS.Timeout | undefined;
      const run = await qdora(args, {
        onText: (stderr, child) => {
          if (stderr.includes(when)) timer ??= setTimeout(() => child.kill("SIGKILL"), wait);
        },
      });
      clearTimeout(timer);
      expect([null, 0], run.stderr).toContain(run.status);
    }
    await succeed(args);
    expectSameBytes(straight, out, "adapter_model.safetensors");
    expect(numbers(out)).toEqual(numbers(straight));
    expect(checkpoints(out)).toEqual(["checkpoint-19", "checkpoint-20"]);
    expect(readdirSync(out).filter((name) => /tmp|lock/.test(name))).toEqual([]);
  });
});

describe("a second run in the same folder", () => {
  it("is refused while the first goes on, which then ends as if nothing had been", async () => {
    const out = join(folder, "shared");
    let second: Promise<readonly Finished[]> | undefined;
    const first = await qdora(finetune(out, "--max-steps", "1000"), {
      onText: (stderr, child) => {
        if (second || !stderr.includes("step 2/1000")) return;
        second = Promise.all([qdora(finetune(out)), qdora(finetune(out, "--resume"))]);
        void second.then(() => child.kill("SIGTERM"));
      },
    });
    expect(first.status, first.stderr).toBe(143);
    for (const run of (await second) ?? [])
      expectRefused(
        run,
        1,
        /output_dir: .*shared is used by another run \(process \d+ on .*\)\nhint: wait for it/,
      );
    expect(readdirSync(out).toSorted()).toEqual([...checkpoints(out), ...STOPPED_FILES]);
  });
});

describe("a run that fails", () => {
  it("after several steps that are not finite keeps the last good state", async () => {
    const out = join(folder, "diverged");
    const diverging = ["--use-dora", "false", "--learning-rate", "1e30", "--warmup-steps", "0"];
    const run = await qdora(finetune(out, ...diverging, "--save-steps", "1"));
    expectRefused(
      run,
      1,
      /finetune: loss or gradient was not finite in 3 steps in a row \(step 4\)\nhint: lower learning_rate and go on with --resume from checkpoint-1/,
    );
    expect(run.stderr).toContain(
      "step 2: loss or gradient is not finite, the adapter was left as it is (1 such step so far)",
    );
    expect(readdirSync(out).toSorted()).toEqual(["checkpoint-1", ...STOPPED_FILES]);
  });

  it.skipIf(!CAN_MOUNT)("because the disk is full keeps the checkpoint before, and says so", async () => {
    const out = join(folder, "small");
    mkdirSync(out);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=320k", "tmpfs", out]);
    try {
      const run = await qdora(finetune(out, "--save-steps", "5"));
      expect(run.status, run.stderr).toBe(1);
      expect(run.stderr).toMatch(
        /error: .*checkpoint-\d+: could not be saved \(.*the disk is full\)\nhint: checkpoint-\d+ is kept: free some space/,
      );
      expect(checkpoints(out)).not.toEqual([]);
      // With more space it goes on to its end.
      const moved = copyUpTo(out, join(folder, "large"), ...checkpoints(out));
      await succeed(finetune(moved, "--resume"));
      expectSameBytes(straight, moved, "adapter_model.safetensors");
    } finally {
      execFileSync("umount", [out]);
    }
  });
});

/** Enough for an adapter of rank 32, not for a checkpoint of it. */
const ROOM_BYTES = 600_000;

describe("a disk that fills up", () => {
  const onSmallDisk = async (
    name: string,
    bytes: number,
    work: (out: string) => Promise<void>,
  ): Promise<void> => {
    const out = join(folder, name);
    mkdirSync(out);
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes}`, "tmpfs", out]);
    try {
      await work(out);
    } finally {
      execFileSync("umount", [out]);
    }
  };

  it.skipIf(!CAN_MOUNT)("is found before the model is loaded where not even the end has room", async () => {
    await onSmallDisk("none", 1 << 17, async (out) => {
      const run = await qdora(finetune(out, "--rank", "32"));
      expect(run.status, run.stderr).toBe(1);
      expect(run.stderr).toMatch(
        /error: .*none: needs \d+ bytes, but the disk has \d+ left\nhint: free some space/,
      );
      expect(run.stderr).not.toContain("step 1/");
      expect(readdirSync(out)).toEqual([]);
    });
  });

  it.skipIf(!CAN_MOUNT)("costs the last checkpoint, but not the adapter", async () => {
    await onSmallDisk("filled", 1 << 23, async (out) => {
      const messages: string[] = [];
      const run = { ...(parse(readFileSync(settings, "utf8")) as FinetuneOptions), save_steps: undefined };
      await library(
        { ...run, output_dir: out, rank: 32, max_steps: 2 },
        {
          onEvent: (event) => {
            if (event.type === "message") messages.push(event.text);
            if (event.type !== "step" || event.step !== 2) return;
            const { bavail, bsize } = statfsSync(out);
            writeFileSync(join(out, "filler"), Buffer.alloc(bavail * bsize - ROOM_BYTES));
          },
        },
      );
      expect(messages.join()).toMatch(
        /note: .*checkpoint-2: could not be saved .*; the adapter does without it/,
      );
      expect(checkpoints(out)).toEqual([]);
      expect(existsSync(join(out, "adapter_model.safetensors"))).toBe(true);
    });
  });
});

describe("a cache that cannot be written", () => {
  it("costs a run no more than what it would have kept there", async () => {
    const out = join(folder, "no-cache");
    const file = join(folder, "file");
    writeFileSync(file, "");
    const run = await succeed(finetune(out, "--max-steps", "2", "--tune", "quick"), { QDORA_CACHE: file });
    expect(run.stderr).toContain(`note: what was measured is not kept: ${file}: is a file\n`);
    expect(run.stderr).toContain(`note: the speed of this run is not kept for plans: ${file}: is a file\n`);
    expect(existsSync(join(out, "adapter_model.safetensors"))).toBe(true);
  });
});

function canMount(): boolean {
  try {
    const probe = join(folder, "probe");
    mkdirSync(probe);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", probe], { stdio: "ignore" });
    execFileSync("umount", [probe]);
    return true;
  } catch {
    return false;
  }
}
