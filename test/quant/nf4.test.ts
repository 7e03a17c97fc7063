import { describe, expect, it } from "vitest";
import { f32ToBf16, f32ToF16 } from "../../src/formats/floats.js";
import { dequantizeNf4, findNonFinite, NF4_BOUNDS, NF4_TABLE, quantizeNf4 } from "../../src/quant/nf4.js";
import { blocksAroundBounds, blocksOfTies, compareBits, goldenTensors, nf4Cases } from "./nf4_fixture.js";

describe("NF4 on the CPU", () => {
  it("has bitsandbytes' levels and bounds", () => {
    const tables = goldenTensors("tables.safetensors");
    expect(compareBits(NF4_TABLE, tables.f32("nf4_table"))).toBe("equal");
    expect(compareBits(NF4_BOUNDS, tables.f32("nf4_bounds"))).toBe("equal");
  });

  for (const { file, blocksize, numel, dtype } of nf4Cases) {
    it(`gives bitsandbytes' bytes for ${file}`, () => {
      const golden = goldenTensors(file);
      const { codes, absmax } = quantizeNf4(golden.widened("src"), blocksize);
      expect(compareBits(codes, golden.u8("packed"))).toBe("equal");
      expect(compareBits(absmax, golden.f32("absmax"))).toBe("equal");

      const values = dequantizeNf4(codes, absmax, numel, blocksize);
      expect(compareBits(values, golden.f32("dequant_f32"))).toBe("equal");
      const restored = dequantizeNf4(codes, golden.f32("dq.absmax_restored"), numel, blocksize);
      expect(compareBits(restored, golden.f32("dq.dequant_f32"))).toBe("equal");

      const narrowed = golden.u8("dequant_src_dtype");
      const own = dtype === "bfloat16" ? f32ToBf16(values) : dtype === "float16" ? f32ToF16(values) : values;
      expect(compareBits(own, narrowed)).toBe("equal");
    });
  }

  const hardest = [
    ["around bounds", blocksAroundBounds([1, 0.7, 3.3, 1.9999999, 3.4e38, 2e38, 1e-38, 3e-39, 0.012345])],
    ["halfway to the next f32 above a bound", blocksOfTies()],
  ] as const;
  for (const [where, values] of hardest) {
    it(`rounds the scaled value to f32 before it compares: ${where}`, () => {
      expect(values.length).toBeGreaterThan(64 * 10);
      const { codes, absmax } = quantizeNf4(values, 64);
      const wrong: string[] = [];
      values.forEach((value, i) => {
        const largest = Math.max(absmax[i >> 6]!, Math.fround(1e-38));
        const scaled = Math.fround(value * Math.fround(1 / largest));
        const want = NF4_BOUNDS.filter((b) => b < scaled).length;
        const got = i % 2 === 0 ? codes[i >> 1]! >> 4 : codes[i >> 1]! & 15;
        if (got !== want) wrong.push(`${value} / ${largest}: ${got}, not ${want}`);
      });
      expect(wrong).toEqual([]);
    });
  }

  it("finds the first value that is not finite", () => {
    expect(findNonFinite(new Float32Array([0, -3.4e38, 1e-45]))).toBe(-1);
    expect(findNonFinite(new Float32Array([1, -Infinity, NaN]))).toBe(1);
    expect(findNonFinite(new Float32Array([1, 2, NaN]).subarray(1))).toBe(1);
    expect(findNonFinite(new Float32Array(0))).toBe(-1);
  });
});
