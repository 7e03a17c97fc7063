/** Weights in pieces: the bytes of the whole-file writer, shards by size, and an index that the reader takes. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.js";
import { writeSafetensors } from "../../src/formats/safetensors.js";
import { planShards, writeShards, type StreamedTensor } from "../../src/formats/sharded.js";
import { readJson } from "../fixture_files.js";
import { temporaryFolder } from "./made_files.js";

function streamed(name: string, values: Float32Array, pieces = 1): StreamedTensor {
  const bytes = new Uint8Array(values.buffer);
  const step = Math.ceil(bytes.length / pieces);
  return {
    name,
    dtype: "F32",
    shape: [values.length],
    data: async function* () {
      for (let at = 0; at < bytes.length; at += step) yield await Promise.resolve(bytes.slice(at, at + step));
    },
  };
}

const numbers = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => i / 8);

describe("writeShards", () => {
  it("writes the bytes of the whole-file writer, whatever the pieces", async () => {
    const folder = temporaryFolder();
    const tensors = [streamed("b", numbers(33), 4), streamed("a", numbers(5))];
    const written = await writeShards(folder, tensors, 1e9);
    expect(written).toEqual({ files: ["model.safetensors"], totalBytes: 152 });
    expect(readdirSync(folder)).toEqual(["model.safetensors"]);
    const whole = join(folder, "whole.safetensors");
    await writeSafetensors(
      whole,
      new Map([
        ["a", { dtype: "F32", shape: [5], data: numbers(5) }],
        ["b", { dtype: "F32", shape: [33], data: numbers(33) }],
      ]),
      { format: "pt" },
    );
    expect(readFileSync(join(folder, "model.safetensors"))).toEqual(readFileSync(whole));
  });

  it("splits by size and writes an index that the reader takes", async () => {
    const folder = temporaryFolder();
    const tensors = ["x", "y", "z", "w"].map((name, i) => streamed(name, numbers(10 * (i + 1)), 3));
    const { files, totalBytes } = await writeShards(folder, tensors, 125);
    expect(files).toEqual([1, 2, 3].map((n) => `model-0000${n}-of-00003.safetensors`));
    expect(totalBytes).toBe(400);
    const index = readJson(folder, "model.safetensors.index.json") as Record<string, unknown>;
    expect(index).toEqual({
      metadata: { total_size: 400 },
      weight_map: { x: files[0], y: files[0], z: files[1], w: files[2] },
    });
    const checkpoint = await openCheckpoint(folder);
    for (const [i, name] of ["x", "y", "z", "w"].entries()) {
      const bytes = await checkpoint.read(checkpoint.tensors.get(name)!);
      expect(new Float32Array(bytes.buffer)).toEqual(numbers(10 * (i + 1)));
    }
    await checkpoint.close();
  });

  it("a tensor larger than the limit gets a file of its own", () => {
    const tensors = [1, 50, 1, 1].map((n, i) => streamed(`t${i}`, numbers(n)));
    expect(planShards(tensors, 100).map((shard) => shard.map((t) => t.name))).toEqual([
      ["t0"],
      ["t1"],
      ["t2", "t3"],
    ]);
  });

  it("stops where it is told to, and refuses data of another size", async () => {
    const stop = writeShards(temporaryFolder(), [streamed("a", numbers(5))], 1e9, () => {
      throw new Error("stop");
    });
    await expect(stop).rejects.toThrow("stop");
    const short = { ...streamed("a", numbers(5)), shape: [6] };
    await expect(writeShards(temporaryFolder(), [short], 1e9)).rejects.toThrow("a has 20 bytes");
    const long = { ...streamed("a", numbers(5)), shape: [4] };
    await expect(writeShards(temporaryFolder(), [long], 1e9)).rejects.toThrow("bytes too many for a");
  });
});
