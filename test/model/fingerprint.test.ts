/** The fingerprint of weights follows their bytes, names and shapes, and not how they were read. */
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/formats/checkpoint.js";
import type { TensorEntry } from "../../src/formats/safetensors.js";
import { ModelFingerprint } from "../../src/model/fingerprint.js";

const DATA: Readonly<Record<string, readonly number[]>> = { a: [1, 2, 3, 4, 5, 6], b: [7, 8] };
const entry = (name: string, data = DATA): TensorEntry => ({
  name,
  file: "f",
  dtype: "U8",
  shape: [data[name]!.length],
  byteOffset: 0,
  byteLength: data[name]!.length,
});

type Read = readonly [name: string, first?: number, count?: number];

async function digest(reads: readonly Read[], data = DATA): Promise<string> {
  const fingerprint = new ModelFingerprint();
  const checkpoint: Checkpoint = {
    folder: "m",
    files: [],
    tensors: new Map(),
    read: (e, first = 0, count = e.byteLength - first) =>
      Promise.resolve(Uint8Array.from(data[e.name]!.slice(first, first + count))),
    close: () => Promise.resolve(),
  };
  const watched = fingerprint.watch(checkpoint);
  for (const [name, first, count] of reads) await watched.read(entry(name, data), first, count);
  return fingerprint.digest();
}

describe("ModelFingerprint", () => {
  const whole: readonly Read[] = [["a"], ["b"]];

  it.each<readonly [string, readonly Read[]]>([
    ["in another order", [["b"], ["a"]]],
    ["in pieces", [["a", 0, 2], ["b"], ["a", 2, 4]]],
    ["twice", [["a"], ["a", 0, 3], ["a", 3, 3], ["b"]]],
    ["in pieces that overlap", [["a", 0, 4], ["a", 2, 4], ["b"]]],
  ])("is the same when tensors are read %s", async (_, reads) => {
    expect(await digest(reads)).toBe(await digest(whole));
  });

  it("is another one for another byte, even the last, and for less", async () => {
    const same = await digest(whole);
    expect(await digest(whole, { ...DATA, a: [1, 2, 3, 4, 5, 7] })).not.toBe(same);
    expect(await digest(whole, { ...DATA, b: [7, 8, 9] })).not.toBe(same);
    expect(await digest([["a"]])).not.toBe(same);
  });
});
