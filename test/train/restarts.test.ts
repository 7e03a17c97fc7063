/** A run whose GPU device is lost goes on from its newest checkpoint, to the same bytes. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { QdoraError } from "../../src/formats/error.js";
import type { Gpu } from "../../src/gpu/device.js";
import { DeviceLostError } from "../../src/gpu/errors.js";
import { CheckpointStore } from "../../src/train/checkpoint_store.js";
import { withRestarts } from "../../src/train/restarts.js";
import { train, type TrainingResult } from "../../src/train/trainer.js";

const opened: Gpu[] = [];
vi.mock(import("../../src/gpu/device.js"), async (original) => {
  const real = await original();
  return {
    ...real,
    openGpu: async (options) => {
      const gpu = await real.openGpu(options);
      opened.push(gpu);
      return gpu;
    },
  };
});

const folder = mkdtempSync(join(tmpdir(), "qdora-loss-"));
afterAll(() => rmSync(folder, { recursive: true }));

const lost = (): DeviceLostError => new DeviceLostError("unknown", "gone");

describe("withRestarts", () => {
  const quick = { say: () => undefined, pauseMs: 0 };

  it("ends with the third loss in ten minutes", async () => {
    const attempt = vi.fn(() => Promise.reject(lost()));
    await expect(withRestarts(attempt, quick)).rejects.toThrow("the device was lost 3 times in ten minutes");
    expect(attempt).toHaveBeenCalledTimes(3);
  });

  it("goes on after losses that are further apart", async () => {
    let [calls, minutes] = [0, 0];
    const attempt = (): Promise<string> => {
      minutes += 6;
      return ++calls < 6 ? Promise.reject(lost()) : Promise.resolve("done");
    };
    expect(await withRestarts(attempt, { ...quick, now: () => minutes * 60_000 })).toBe("done");
  });

  it("does not hide other errors, nor wait after a signal", async () => {
    const other = new QdoraError("data", "broken");
    await expect(withRestarts(() => Promise.reject(other), quick)).rejects.toBe(other);
    const signal = AbortSignal.abort(new Error("stop"));
    await expect(withRestarts(() => Promise.reject(lost()), { ...quick, signal })).rejects.toThrow("gone");
    const attempts = [lost(), new QdoraError("gpu", "no GPU adapter was found"), undefined];
    const attempt = (): Promise<string> => {
      const error = attempts.shift();
      return error ? Promise.reject(error) : Promise.resolve("done");
    };
    expect(await withRestarts(attempt, quick)).toBe("done");
  });
});

describe("a lost device", () => {
  const runTo = async (out: string, loseAt: number): Promise<TrainingResult> => {
    let isFirst = true;
    return withRestarts(
      async () => {
        const config = await resolveFinetuneConfig({
          model: "test/fixtures/models/llama",
          data: "test/fixtures/training/qdora_llama/data.jsonl",
          output_dir: join(folder, out),
          rank: 4,
          max_steps: 6,
          save_steps: 2,
          gradient_accumulation_steps: 2,
          learning_rate: 5e-3,
          tune: "off",
          resume: !isFirst,
        });
        const store = await CheckpointStore.open(config);
        try {
          return await train(
            config,
            (event) => {
              if (!isFirst || event.type !== "step" || event.step !== loseAt) return;
              isFirst = false;
              opened.at(-1)?.device.destroy();
            },
            undefined,
            store,
          );
        } finally {
          store.close();
        }
      },
      { say: () => undefined, pauseMs: 0 },
    );
  };

  it.each([3, 4])(
    "after step %i costs the steps since the last checkpoint and changes nothing",
    async (step) => {
      const want = await runTo(`straight${step}`, 0);
      opened.length = 0;
      const got = await runTo(`lost${step}`, step);
      expect(opened.length).toBe(2);
      expect(got.adapter).toEqual(want.adapter);
      expect(readdirSync(join(folder, `lost${step}`)).toSorted()).toEqual([
        "checkpoint-2",
        "checkpoint-4",
        "checkpoint-6",
      ]);
    },
  );
});
