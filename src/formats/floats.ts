/** Conversions between f32 and the 16-bit floats of checkpoints: bf16 (upper half of an f32) and IEEE f16. */

const word = new Uint32Array(1);
const real = new Float32Array(word.buffer);

/** @param src bf16 bits */
export function bf16ToF32(src: Uint16Array, out: Float32Array = new Float32Array(src.length)): Float32Array {
  const bits = new Uint32Array(out.buffer, out.byteOffset, src.length);
  for (let i = 0; i < src.length; i++) bits[i] = src[i]! << 16;
  return out;
}

/** Rounds to nearest even; NaN stays NaN. */
export function f32ToBf16(src: Float32Array): Uint16Array {
  const bits = new Uint32Array(src.buffer, src.byteOffset, src.length);
  const out = new Uint16Array(src.length);
  for (let i = 0; i < src.length; i++) {
    const b = bits[i]!;
    out[i] = (b & 0x7fffffff) > 0x7f800000 ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
  return out;
}

function f16Value(h: number): number {
  const exponent = (h >>> 10) & 31;
  const fraction = h & 1023;
  const magnitude =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction
          ? NaN
          : Infinity
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return h & 0x8000 ? -magnitude : magnitude;
}

let f16Table: Float32Array | undefined;

/** @param src f16 bits */
export function f16ToF32(src: Uint16Array, out: Float32Array = new Float32Array(src.length)): Float32Array {
  f16Table ??= Float32Array.from({ length: 65536 }, (_, h) => f16Value(h));
  for (let i = 0; i < src.length; i++) out[i] = f16Table[src[i]!]!;
  return out;
}

/** Rounds to nearest even, with subnormals; beyond 65,504 it is infinite; NaN stays NaN. */
export function f32ToF16(src: Float32Array): Uint16Array {
  const out = new Uint16Array(src.length);
  for (let i = 0; i < src.length; i++) {
    real[0] = src[i]!;
    const b = word[0]!;
    const sign = (b >>> 16) & 0x8000;
    const magnitude = b & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      out[i] = sign | 0x7e00;
    } else if (magnitude >= 0x477ff000) {
      out[i] = sign | 0x7c00;
    } else if (magnitude >= 0x38800000) {
      const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
      out[i] = sign | ((rounded - 0x38000000) >>> 13);
    } else {
      // Subnormal: a multiple of 2^-24; the product is exact, so rounding half to even is all there is to do.
      const scaled = Math.abs(src[i]!) * 2 ** 24;
      const floor = Math.floor(scaled);
      const rest = scaled - floor;
      out[i] = sign | (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor);
    }
  }
  return out;
}

/** The exponent bits that are all set in NaN and infinity. */
export const BF16_EXPONENT = 0x7f80;
export const F16_EXPONENT = 0x7c00;

/** @returns the index of the first 16-bit float that is NaN or infinite, or -1 */
export function findNonFinite16(values: Uint16Array, exponent: number): number {
  for (let i = 0; i < values.length; i++) if ((values[i]! & exponent) === exponent) return i;
  return -1;
}
