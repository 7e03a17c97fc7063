/** Streamed layers in a file, where the system moves fewer bytes at a time than it was asked for. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it, vi } from "vitest";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { LayerCache } from "../../src/model/layer_cache.js";
import { fitMemory } from "../../src/train/memory.js";
import { geometryShape } from "../../src/train/plan.js";

const MOST = 1000;
vi.mock(import("node:fs/promises"), async (original) => {
  const real = await original();
  const open: typeof real.open = async (...args) => {
    const file = await real.open(...args);
    const [read, write] = [file.read.bind(file), file.write.bind(file)] as const;
    return Object.assign(file, {
      read: (b: Uint8Array, at: number, count: number, place: number) =>
        read(b, at, Math.min(count, MOST), place),
      write: (b: Uint8Array, at: number, count: number, place: number) =>
        write(b, at, Math.min(count, MOST), place),
    });
  };
  return { ...real, open };
});

const folder = mkdtempSync(join(tmpdir(), "qdora-layers-"));
afterAll(() => rmSync(folder, { recursive: true }));

it("keeps all bytes of a layer", async () => {
  const config = await resolveFinetuneConfig({ stream_layers: "all", max_seq_length: 8 }, undefined, [
    "model",
    "data",
    "output_dir",
  ]);
  const { model } = fitMemory(geometryShape("smollm2-135m", config), config, undefined);
  const cache = await LayerCache.create(model, folder);
  const weight = model.layers[1]?.linears.q_proj.weight;
  if (weight?.format !== "nf4" || !weight.codes.arena) throw new Error("unreachable");
  const bytes = Uint8Array.from({ length: 5003 }, (_, i) => 1 + (i % 251));
  await cache.before({ write: async () => undefined }).write(weight.codes, bytes, 4);
  const slot = await cache.read(1);
  const at = weight.codes.arena.offsetBytes + 4;
  expect(slot.length).toBe(model.ring?.frozenBytes);
  expect(Buffer.compare(slot.subarray(at, at + bytes.length), bytes)).toBe(0);
  await cache.close();
});
