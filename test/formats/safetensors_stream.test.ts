import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { quantStateText } from "../../src/formats/bitsandbytes_write.js";
import { readSafetensorsHeader } from "../../src/formats/safetensors.js";
import { plannedBytes, SafetensorsStream, type PlannedTensor } from "../../src/formats/safetensors_stream.js";
import { expectRefusal, put, temporaryFolder } from "./made_files.js";

const TENSORS = new Map<string, PlannedTensor>([
  ["bytes", { dtype: "U8", shape: [3, 1] }],
  ["half", { dtype: "BF16", shape: [3] }],
  ["real", { dtype: "F32", shape: [2] }],
]);

async function write(path: string, text: string): Promise<number> {
  const file = await SafetensorsStream.create(path, TENSORS, new Map([["text", 40]]));
  await file.append("bytes", Uint8Array.of(1, 2));
  await file.append("real", new Uint8Array(8).fill(9));
  file.setLate("text", Buffer.from(text));
  await file.append("half", new Uint8Array(6).fill(8));
  await file.append("bytes", Uint8Array.of(3));
  const bytes = await file.finish();
  await file.close();
  return bytes;
}

describe("SafetensorsStream", () => {
  it("puts pieces that come in any order into one sound file", async () => {
    const path = join(temporaryFolder(), "x.safetensors");
    for (const text of ["", "short", "x".repeat(40)]) {
      const name = `${path}.${text.length}`;
      expect(await write(name, text)).toBe(3 + 6 + 8 + text.length);
      const { tensors, metadata } = await readSafetensorsHeader(name);
      expect(metadata).toEqual({ format: "pt" });
      const file = readFileSync(name);
      const data = (tensor: string): number[] => {
        const { byteOffset, byteLength } = tensors.get(tensor)!;
        return [...file.subarray(byteOffset, byteOffset + byteLength)];
      };
      expect(data("bytes")).toEqual([1, 2, 3]);
      expect(data("half")).toEqual(Array(6).fill(8));
      expect(data("real")).toEqual(Array(8).fill(9));
      expect(Buffer.from(data("text")).toString()).toBe(text);
      for (const { byteOffset, dtype } of tensors.values())
        expect(byteOffset % (dtype === "F32" ? 4 : dtype === "BF16" ? 2 : 1)).toBe(0);
      expect(statSync(name).size).toBeLessThanOrEqual(plannedBytes(TENSORS, new Map([["text", 40]])));
    }
  });

  it("does not end a file with a tensor that is not whole", async () => {
    const path = join(temporaryFolder(), "x.safetensors");
    const one = new Map([["bytes", TENSORS.get("bytes")!]]);
    const file = await SafetensorsStream.create(path, one, new Map([["text", 9]]));
    await file.append("bytes", Uint8Array.of(1, 2));
    await expect(file.append("bytes", Uint8Array.of(3, 4))).rejects.toThrow("too many");
    await expect(file.finish()).rejects.toThrow("bytes has 2 bytes");
    await file.append("bytes", Uint8Array.of(3));
    await expect(file.finish()).rejects.toThrow("text was not given");
    await file.close();
  });

  it("never writes over a file", async () => {
    const path = put(temporaryFolder(), "x.safetensors", "mine");
    await expectRefusal(SafetensorsStream.create(path, TENSORS, new Map()), path, /EEXIST/);
  });
});

describe("quantStateText", () => {
  const weight = { out: 64, in: 32, blockSize: 64, storedDtype: "F16" };
  const text = (offset: number): string =>
    Buffer.from(
      quantStateText(weight, {
        doubleQuant: true,
        absmaxCodes: new Uint8Array(),
        nestedAbsmax: new Float32Array(),
        nestedMap: new Float32Array(),
        offset,
      }),
    ).toString();

  it("is Python's text, as bitsandbytes stores it", () => {
    expect(text(0.361419677734375)).toBe(
      '{"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [64, 32], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.361419677734375}',
    );
  });

  it("has Python's form of small, large and whole numbers", () => {
    // By `python -c "print(repr(…))"`.
    for (const [value, repr] of [
      [0, "0.0"],
      [2, "2.0"],
      [0.0001, "0.0001"],
      [0.000099945068359375, "9.9945068359375e-05"],
      [1e-5, "1e-05"],
      [1.17549435e-38, "1.17549435e-38"],
      [123456789012345680, "1.2345678901234568e+17"],
      [1e15, "1000000000000000.0"],
    ] as const)
      expect(text(value)).toContain(`"nested_offset": ${repr}}`);
  });
});
