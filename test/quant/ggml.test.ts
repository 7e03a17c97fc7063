/** q8_0 and q4_0 blocks, byte for byte those of llama.cpp's Python package (test/fixtures/make/make_ggml.py). */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpointFile, readAsF32 } from "../../src/formats/checkpoint.js";
import { f32ToF16 } from "../../src/formats/floats.js";
import { quantizeQ4_0, quantizeQ8_0 } from "../../src/quant/ggml.js";
import { FIXTURES } from "../fixture_files.js";

async function fixture(): Promise<{ values: Float32Array; q8_0: Uint8Array; q4_0: Uint8Array }> {
  const file = await openCheckpointFile(join(FIXTURES, "ggml", "blocks.safetensors"));
  const values = await readAsF32(file, file.tensors.get("values")!);
  const q8_0 = await file.read(file.tensors.get("q8_0")!);
  const q4_0 = await file.read(file.tensors.get("q4_0")!);
  await file.close();
  return { values, q8_0, q4_0 };
}

describe("ggml blocks", () => {
  it("q8_0: the bytes of the reference", async () => {
    const { values, q8_0 } = await fixture();
    expect(quantizeQ8_0(values, f32ToF16)).toEqual(q8_0);
  });

  it("q4_0: the bytes of the reference", async () => {
    const { values, q4_0 } = await fixture();
    expect(quantizeQ4_0(values, f32ToF16)).toEqual(q4_0);
  });

  it("a block so small that its scale is 0 in f16 is all zero", () => {
    const tiny = new Float32Array(32).fill(1e-42);
    expect(quantizeQ8_0(tiny, f32ToF16)).toEqual(new Uint8Array(34));
    expect([...quantizeQ4_0(tiny, f32ToF16)].slice(2)).toEqual(Array.from({ length: 16 }, () => 0x88));
  });

  it("refuses values that are no whole blocks", () => {
    expect(() => quantizeQ8_0(new Float32Array(33), f32ToF16)).toThrow(/33 values/);
  });
});
