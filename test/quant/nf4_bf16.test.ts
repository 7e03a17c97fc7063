import { describe, expect, it } from "vitest";
import { bf16ToF32, f32ToBf16 } from "../../src/formats/floats.js";
import { quantizeNf4 } from "../../src/quant/nf4.js";
import { quantizeNf4Bf16 } from "../../src/quant/nf4_bf16.js";
import { compareBits, goldenTensors, nf4Cases } from "./nf4_fixture.js";

function quantize(values: Uint16Array, blockSize: number) {
  const codes = new Uint8Array(Math.ceil(values.length / 2));
  const absmax = new Float32Array(Math.ceil(values.length / blockSize));
  const bad = quantizeNf4Bf16(values, blockSize, codes, absmax);
  return { codes, absmax, bad };
}

/** The rule for f32 is the one that bitsandbytes' fixtures hold. */
function expectSame(values: Uint16Array, blockSize: number): void {
  const want = quantizeNf4(bf16ToF32(values), blockSize);
  const got = quantize(values, blockSize);
  expect(got.bad).toBe(-1);
  expect(compareBits(got.codes, want.codes)).toBe("equal");
  expect(compareBits(got.absmax, want.absmax)).toBe("equal");
}

describe("NF4 of bf16", () => {
  for (const { file, blocksize, dtype } of nf4Cases.filter((c) => c.dtype === "bfloat16")) {
    it(`gives bitsandbytes' bytes for ${file} (${dtype})`, () => {
      const golden = goldenTensors(file);
      const { codes, absmax } = quantize(f32ToBf16(golden.widened("src")), blocksize);
      expect(compareBits(codes, golden.u8("packed"))).toBe("equal");
      expect(compareBits(absmax, golden.f32("absmax"))).toBe("equal");
    });
  }

  // From subnormal maxima to the largest finite ones; 9 and 250 are the first and last exponents that the table serves.
  for (const exponent of [0, 1, 2, 8, 9, 10, 64, 126, 127, 128, 200, 250, 251, 252, 253, 254]) {
    it(`agrees with f32 for every maximum and every value, exponent ${exponent}`, () => {
      for (let mantissa = 0; mantissa < 128; mantissa++) {
        const top = (exponent << 7) | mantissa;
        const values: number[] = [];
        for (let distance = 0; distance <= Math.min(top, 1100); distance++) {
          for (const sign of [0, 0x8000]) {
            if (values.length % 64 === 0) values.push(top | (mantissa % 2 === 0 ? 0 : 0x8000));
            values.push((top - distance) | sign);
          }
        }
        while (values.length % 64 !== 0) values.push(values.length % 2 === 0 ? 0 : 0x8000);
        expectSame(Uint16Array.from(values), 64);
      }
    });
  }

  it("agrees for odd counts, short last blocks and other block sizes", () => {
    const values = f32ToBf16(Float32Array.from({ length: 1999 }, (_, i) => Math.sin(i * i) * 0.07));
    for (const count of [1, 2, 63, 64, 65, 129, 1999])
      for (const blockSize of [64, 128, 4096]) expectSame(values.subarray(0, count), blockSize);
  });

  it("names the first value that is not finite", () => {
    const values = f32ToBf16(Float32Array.from({ length: 200 }, (_, i) => i - 100));
    expect(quantize(values, 64).bad).toBe(-1);
    for (const [at, bits] of [
      [199, 0x7fc0],
      [130, 0xff80],
      [64, 0x7f80],
    ] as const) {
      values[at] = bits;
      expect(quantize(values, 64).bad).toBe(at);
    }
  });
});
