/** Downloads under way when something else fails. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, it, vi } from "vitest";
import type { Gpu } from "../../src/gpu/device.js";
import { Downloader } from "../../src/gpu/download.js";

afterEach(() => vi.unstubAllGlobals());

it("tells whoever waits of a lost device, and the process of nothing before", async () => {
  vi.stubGlobal("GPUMapMode", { READ: 1 });
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => void unhandled.push(reason);
  process.on("unhandledRejection", note);
  const encoder = { copyBufferToBuffer: () => undefined, finish: () => ({}) };
  const gpu = {
    device: { createCommandEncoder: () => encoder, queue: { submit: () => undefined } },
    traits: { isSoftware: false },
    check: () => undefined,
  } as unknown as Gpu;
  const staging = { mapAsync: () => Promise.reject(new Error("the device is lost")) } as unknown as GPUBuffer;
  const downloader = new Downloader(gpu, [staging], 16);
  await downloader.start({} as GPUBuffer, 0, 16, () => undefined);
  await sleep(20);
  expect(unhandled).toEqual([]);
  await expect(downloader.finish()).rejects.toThrow("the device is lost");
  process.off("unhandledRejection", note);
});
