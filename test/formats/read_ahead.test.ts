import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.js";
import { ReadAhead } from "../../src/formats/read_ahead.js";
import { writeSafetensors } from "../../src/formats/safetensors.js";
import { expectRefusal, temporaryFolder } from "./made_files.js";

async function made(count: number) {
  const folder = temporaryFolder();
  const data = Uint8Array.from({ length: count }, (_, i) => i * 7);
  const path = join(folder, "model.safetensors");
  await writeSafetensors(path, new Map([["x", { dtype: "U8", shape: [count], data }]]));
  const checkpoint = await openCheckpoint(folder);
  return { path, data, checkpoint, entry: checkpoint.tensors.get("x")! };
}

describe("ReadAhead", () => {
  it("gives a tensor's bytes in order, in pieces of one size and a rest", async () => {
    const { data, checkpoint, entry } = await made(1003);
    const reader = new ReadAhead(checkpoint);
    for (const [first, count, piece] of [
      [0, 1003, 100],
      [10, 300, 100],
      [1003, 0, 100],
      [0, 1003, 5000],
    ] as const) {
      const sizes: number[] = [];
      const got: number[] = [];
      for await (const bytes of reader.pieces(entry, first, count, piece)) {
        expect(bytes.byteOffset).toBe(0);
        sizes.push(bytes.length);
        got.push(...bytes);
      }
      expect(got).toEqual([...data.subarray(first, first + count)]);
      expect(sizes.slice(0, -1).every((n) => n === piece)).toBe(true);
    }
    await checkpoint.close();
  });

  it("uses two buffers, whatever the number of pieces", async () => {
    const { checkpoint, entry } = await made(1000);
    const buffers = new Set<ArrayBuffer>();
    for await (const bytes of new ReadAhead(checkpoint).pieces(entry, 0, 1000, 10)) buffers.add(bytes.buffer);
    expect(buffers.size).toBe(2);
    await checkpoint.close();
  });

  it("refuses a file that became shorter, and leaves nothing running when its reader stops early", async () => {
    const { path, checkpoint, entry } = await made(1000);
    const reader = new ReadAhead(checkpoint);
    for await (const bytes of reader.pieces(entry, 0, 1000, 10)) {
      expect(bytes.length).toBe(10);
      break;
    }
    writeFileSync(path, "short");
    const all = async () => {
      for await (const bytes of reader.pieces(entry, 0, 1000, 10)) expect(bytes.length).toBe(10);
    };
    await expectRefusal(all(), path, /ends at byte \d+/);
    await checkpoint.close();
  });
});
