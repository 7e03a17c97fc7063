/** GGUF files read back by Hugging Face's reader, and their bytes where the reader does not look. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gguf } from "@huggingface/gguf";
import { describe, expect, it } from "vitest";
import { ggufBytes, writeGguf, type GgufMetadata, type GgufTensor } from "../../src/formats/gguf.js";
import { temporaryFolder } from "./made_files.js";

const METADATA: GgufMetadata = new Map([
  ["general.architecture", { type: "string", value: "llama" }],
  ["a.count", { type: "u32", value: 4294967295 }],
  ["a.rate", { type: "f32", value: 1e-5 }],
  ["a.yes", { type: "bool", value: true }],
  ["a.no", { type: "bool", value: false }],
  ["a.words", { type: "strings", value: ["", "Ġa", "日本", "\u0000"] }],
  ["a.kinds", { type: "i32s", value: Int32Array.of(1, -3) }],
  ["a.scores", { type: "f32s", value: Float32Array.of(0, -1.5) }],
]);

const tensor = (
  name: string,
  type: GgufTensor["type"],
  shape: readonly number[],
  fill: number,
): GgufTensor => {
  const bytes = new Uint8Array(ggufBytes({ name, type, shape })).fill(fill);
  return {
    name,
    type,
    shape,
    data: async function* () {
      yield await Promise.resolve(bytes.subarray(0, 7));
      yield bytes.subarray(7);
    },
  };
};
const TENSORS = [
  tensor("one", "F32", [3], 1),
  tensor("two", "Q8_0", [2, 64], 2),
  tensor("three", "Q4_0", [5, 32], 3),
  tensor("four", "F16", [2, 3], 4),
];

describe("writeGguf", () => {
  it("is read back by Hugging Face's reader", async () => {
    const path = join(temporaryFolder(), "m.gguf");
    const bytes = await writeGguf(path, METADATA, TENSORS);
    expect(readFileSync(path).length).toBe(bytes);
    const { metadata, tensorInfos, tensorDataOffset } = await gguf(path, { allowLocalFile: true });
    expect(metadata).toMatchObject({
      version: 3,
      tensor_count: 4n,
      kv_count: 8n,
      "general.architecture": "llama",
      "a.count": 4294967295,
      "a.rate": Math.fround(1e-5),
      "a.yes": true,
      "a.no": false,
      "a.words": ["", "Ġa", "日本", "\u0000"],
      "a.kinds": [1, -3],
      "a.scores": [0, -1.5],
    });
    // Dimensions are innermost first.
    expect(tensorInfos.map((t) => [t.name, t.shape, t.dtype, t.offset])).toEqual([
      ["one", [3n], 0, 0n],
      ["two", [64n, 2n], 8, 32n],
      ["three", [32n, 5n], 2, 192n],
      ["four", [3n, 2n], 1, 288n],
    ]);
    expect(Number(tensorDataOffset) % 32).toBe(0);
    const file = readFileSync(path);
    for (const [i, t] of tensorInfos.entries()) {
      const from = Number(tensorDataOffset) + Number(t.offset);
      const size = ggufBytes(TENSORS[i]!);
      expect([...file.subarray(from, from + size)].every((b) => b === i + 1)).toBe(true);
      expect([...file.subarray(from + size, Math.ceil((from + size) / 32) * 32)].every((b) => b === 0)).toBe(
        true,
      );
    }
  });

  it("leaves no file when it is stopped", async () => {
    const folder = temporaryFolder();
    const stop = writeGguf(join(folder, "m.gguf"), METADATA, TENSORS, (t) => {
      if (t.name === "three") throw new Error("stop");
    });
    await expect(stop).rejects.toThrow("stop");
    expect(readdirSync(folder)).toEqual([]);
  });

  it("refuses rows that are no whole blocks", () => {
    expect(() => ggufBytes({ name: "x", type: "Q4_0", shape: [2, 33] })).toThrow(/whole blocks/);
  });
});
