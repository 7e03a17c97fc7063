/**
 * NF4 (QLoRA, arXiv 2305.14314, appendix E) on the CPU, byte for byte as bitsandbytes: blocks run over the flat tensor,
 * and in a byte the first value is the high nibble.
 */

/** The 16 levels of NF4, as bitsandbytes has them in f32. */
export const NF4_TABLE = new Float32Array([
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]);

/** The bounds between levels: their f32 midpoints. A code is the number of bounds strictly below the scaled value. */
export const NF4_BOUNDS = Float32Array.from({ length: 15 }, (_, i) =>
  Math.fround(Math.fround(NF4_TABLE[i]! + NF4_TABLE[i + 1]!) / 2),
);

export interface Nf4Blocks {
  /** [ceil(count / 2)] two codes a byte, the first in the high nibble. */
  readonly codes: Uint8Array;
  /** [ceil(count / blockSize)] largest magnitude of each block. */
  readonly absmax: Float32Array;
}

/** What bitsandbytes divides by at least, so that a block of zeros stays zero. */
const SMALLEST_ABSMAX = Math.fround(1e-38);

const f32 = new Float32Array(1);
const f32Bits = new Uint32Array(f32.buffer);

/**
 * An f64 number t with: fround(s) > bound exactly if s > t, for every s that a product or quotient of two f32 can be.
 * So the rounding to f32 between scaling and comparing costs nothing.
 */
function unroundedBound(bound: number): number {
  f32[0] = bound;
  const odd = f32Bits[0]! & 1;
  f32Bits[0] = bound > 0 ? f32Bits[0]! + 1 : f32Bits[0]! - 1;
  const middle = (bound + f32[0]) / 2;
  // Halfway between two f32 goes to the even one. Products keep 48 bits, so none lies between middle and 2^-51 below it.
  return odd ? middle - Math.abs(middle) * 2 ** -51 : middle;
}

/** The 15 bounds for unrounded values, and one more that no value exceeds. */
const UPPER = Float64Array.from([...Array.from(NF4_BOUNDS, unroundedBound), Infinity]);

/** [-1, 1] in cells so narrow (1/32; bounds are 0.08 apart) that each holds at most one bound. */
const CELLS = 64;
/** The code at the lower edge of each cell; the last one is for 1 itself. */
const CELL_CODE = Uint8Array.from({ length: CELLS + 1 }, (_, cell) => {
  const edge = (2 * cell) / CELLS - 1;
  return NF4_BOUNDS.filter((bound) => bound < edge).length;
});

/** @param scaled value over block maximum, in f64 before its rounding to f32 */
function nf4Code(scaled: number): number {
  const code = CELL_CODE[(scaled * (CELLS / 2) + CELLS / 2) | 0]!;
  return scaled > UPPER[code]! ? code + 1 : code;
}

/** The bits of the largest magnitude; those of NaN and infinity are above all others. */
function largestBits(bits: Int32Array, start: number, end: number): number {
  let largest = 0;
  for (let i = start; i < end; i++) largest = Math.max(largest, bits[i]! & 0x7fffffff);
  return largest;
}

/**
 * bitsandbytes' CPU rule: a full block is multiplied by the rounded reciprocal of its maximum, a short last one divided
 * by it. A last byte with one value has code 7 (zero) in its low nibble.
 * @param values [count] f32; a piece of a larger tensor must start at a block
 * @param blockSize even
 * @returns codes and block maxima of finite values
 */
export function quantizeNf4(values: Float32Array, blockSize: number): Nf4Blocks {
  const codes = new Uint8Array(Math.ceil(values.length / 2));
  const absmax = new Float32Array(Math.ceil(values.length / blockSize));
  quantizeNf4Into(values, blockSize, codes, absmax);
  return { codes, absmax };
}

/**
 * The same into memory that the caller keeps.
 * @param codes at least ceil(count / 2) bytes, overwritten
 * @param absmax at least ceil(count / blockSize) values, overwritten
 * @returns the index of the first value that is NaN or infinite (codes and maxima are then not complete), or -1
 */
export function quantizeNf4Into(
  values: Float32Array,
  blockSize: number,
  codes: Uint8Array,
  absmax: Float32Array,
): number {
  const count = values.length;
  const bits = new Int32Array(values.buffer, values.byteOffset, count);
  for (let start = 0, block = 0; start < count; start += blockSize, block++) {
    const end = Math.min(count, start + blockSize);
    f32Bits[0] = largestBits(bits, start, end);
    if (f32Bits[0] >= 0x7f800000) return start + findNonFinite(values.subarray(start, end));
    const largest = f32[0]!;
    const divisor = Math.max(largest, SMALLEST_ABSMAX);
    if (end - start === blockSize) {
      absmax[block] = largest;
      const inverse = Math.fround(1 / divisor);
      for (let i = start; i < end; i += 2) {
        codes[i >> 1] = (nf4Code(values[i]! * inverse) << 4) | nf4Code(values[i + 1]! * inverse);
      }
    } else {
      absmax[block] = divisor;
      for (let i = start; i < end; i += 2) {
        const second = i + 1 < end ? values[i + 1]! : 0;
        codes[i >> 1] = (nf4Code(values[i]! / divisor) << 4) | nf4Code(second / divisor);
      }
    }
  }
  return -1;
}

/**
 * level[code] * absmax of the block, one f32 product each.
 * @param absmax at least ceil(count / blockSize) values
 * @param blockSize even
 * @returns [count] f32
 */
export function dequantizeNf4(
  codes: Uint8Array,
  absmax: Float32Array,
  count: number,
  blockSize: number,
): Float32Array {
  const values = new Float32Array(count);
  const scaled = new Float32Array(16);
  for (let start = 0, block = 0; start < count; start += blockSize, block++) {
    for (let code = 0; code < 16; code++) scaled[code] = NF4_TABLE[code]! * absmax[block]!;
    const end = Math.min(count, start + blockSize);
    for (let i = start; i < end - 1; i += 2) {
      const pair = codes[i >> 1]!;
      values[i] = scaled[pair >> 4]!;
      values[i + 1] = scaled[pair & 15]!;
    }
    if (end % 2 === 1) values[end - 1] = scaled[codes[end >> 1]! >> 4]!;
  }
  return values;
}

/** @returns the index of the first NaN or infinity, or -1 */
export function findNonFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) if ((bits[i]! & 0x7f800000) === 0x7f800000) return i;
  return -1;
}
