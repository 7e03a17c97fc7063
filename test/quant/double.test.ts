import { describe, expect, it } from "vitest";
import { dequantizeAbsmax, quantizeAbsmax } from "../../src/quant/double.js";
import { DYNAMIC_MAP, nearestEntry } from "../../src/quant/dynamic.js";
import { compareBits, goldenTensors, nf4Cases } from "./nf4_fixture.js";

describe("double quantisation", () => {
  for (const { file } of nf4Cases) {
    it(`gives bitsandbytes' bytes for ${file}`, () => {
      const golden = goldenTensors(file);
      const absmax = golden.f32("absmax");
      const offset = golden.f32("dq.offset")[0]!;

      const cpu = quantizeAbsmax(absmax, "cpu", offset);
      expect(compareBits(cpu.codes, golden.u8("dq.absmax_codes"))).toBe("equal");
      expect(compareBits(cpu.nestedAbsmax, golden.f32("dq.nested_absmax"))).toBe("equal");
      const restored = dequantizeAbsmax(cpu.codes, cpu.nestedAbsmax, offset, golden.f32("dq.code_map"));
      expect(compareBits(restored, golden.f32("dq.absmax_restored"))).toBe("equal");

      const cuda = quantizeAbsmax(absmax, "cuda", offset);
      expect(compareBits(cuda.codes, golden.u8("dq.absmax_codes_cuda_rule"))).toBe("equal");
      expect(compareBits(cuda.nestedAbsmax, golden.f32("dq.nested_absmax"))).toBe("equal");

      // torch's f32 sum of at most 640 maxima, in its own order, is within one unit in the last place of the f64 sum.
      const own = quantizeAbsmax(absmax, "cuda").offset;
      expect(Math.abs(own - offset)).toBeLessThanOrEqual(Math.abs(offset) * 2 ** -23);
    });
  }

  it("picks the entry that CUDA's search ends on, around every entry and every middle", () => {
    const word = new Int32Array(1);
    const real = new Float32Array(word.buffer);
    const values: number[] = [];
    for (let i = 0; i < 255; i++) {
      for (const centre of [DYNAMIC_MAP[i]!, (DYNAMIC_MAP[i]! + DYNAMIC_MAP[i + 1]!) / 2]) {
        for (let step = -3; step <= 3; step++) {
          real[0] = centre;
          word[0] = Math.max(0, (word[0]! & 0x7fffffff) + step) | (word[0]! & 0x80000000);
          values.push(real[0]);
        }
      }
    }
    for (let i = 0; i <= 20000; i++) values.push(Math.fround(i / 10000 - 1));
    // Nested blocks of 256 with the maximum 1 and the offset 0 keep each value as it is.
    const absmax = new Float32Array(Math.ceil(values.length / 255) * 256);
    for (const [i, value] of values.entries()) absmax[i + Math.floor(i / 255) + 1] = value;
    for (let block = 0; block < absmax.length; block += 256) absmax[block] = 1;
    const { codes, nestedAbsmax } = quantizeAbsmax(absmax, "cuda", 0);
    expect(new Set(nestedAbsmax)).toEqual(new Set([1]));
    const wrong = [...absmax.entries()].filter(([i, value]) => codes[i] !== nearestEntry(DYNAMIC_MAP, value));
    expect(wrong).toEqual([]);
  });

  it("restores maxima to within half the widest step of the map", () => {
    const absmax = Float32Array.from({ length: 1000 }, (_, i) => 0.05 + 0.04 * Math.sin(i * i));
    for (const rule of ["cuda", "cpu"] as const) {
      const { codes, nestedAbsmax, offset } = quantizeAbsmax(absmax, rule);
      expect([codes.length, nestedAbsmax.length]).toEqual([1000, 4]);
      const restored = dequantizeAbsmax(codes, nestedAbsmax, offset);
      const largest = Math.max(...restored.map((value, i) => Math.abs(value - absmax[i]!)));
      // Steps are 0.9 / 64 of the nested maximum; the lowest entry, -0.993, is half a step from -1.
      expect(largest).toBeLessThan((0.04 + 0.001) * (0.9 / 128 + 1e-4));
    }
  });
});
