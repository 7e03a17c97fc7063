/**
 * NF4 of bf16 values without any floating point, byte for byte as `quantizeNf4`. A code depends on value over block maximum
 * alone. Between two bf16 of normal size that is fixed by the mantissa of the maximum (7 bits), the distance of the two bit
 * patterns and the sign: a table.
 */
import { quantizeNf4, quantizeNf4Into } from "./nf4.js";

/** Distances in the table; the last stands for all beyond: a value under 1/128 of the maximum has the code of zero. */
const DISTANCES = 1024;
const ROW_BITS = 11;
/**
 * Maxima (bf16 bits) whose reciprocal is a normal f32, and whose distance to any subnormal value is beyond the table: the
 * exponent then has no part in the rounding.
 */
const SMALLEST_TABLED = 9 << 7;
const LARGEST_TABLED = 251 << 7;

/** bf16 is the upper half of an f32. */
function widen(values: Uint16Array): Float32Array {
  const bits = Uint32Array.from(values, (half) => half << 16);
  return new Float32Array(bits.buffer);
}

let codeTable: Uint8Array | undefined;

/** [128 mantissas of the maximum, 2 signs, 1024 distances], made by the rule for f32. */
function tableOfCodes(): Uint8Array {
  if (codeTable) return codeTable;
  codeTable = new Uint8Array(128 << ROW_BITS);
  const values = new Uint16Array(1 << ROW_BITS);
  for (let mantissa = 0; mantissa < 128; mantissa++) {
    const largest = 0x3f80 + mantissa;
    for (let distance = 0; distance < DISTANCES; distance++) {
      values[distance] = largest - distance;
      values[DISTANCES + distance] = (largest - distance) | 0x8000;
    }
    // One block: the first value, at distance 0, is its maximum.
    const { codes } = quantizeNf4(widen(values), values.length);
    for (let i = 0; i < values.length; i++)
      codeTable[(mantissa << ROW_BITS) + i] = i % 2 === 0 ? codes[i >> 1]! >> 4 : codes[i >> 1]! & 15;
  }
  return codeTable;
}

/**
 * @param values [count] bf16 bits at a whole u32 of their buffer; a piece of a larger tensor must start at a block
 * @param blockSize even
 * @param codes at least ceil(count / 2) bytes, overwritten
 * @param absmax at least ceil(count / blockSize) values, overwritten
 * @returns the index of the first value that is NaN or infinite (codes and maxima are then not complete), or -1
 */
export function quantizeNf4Bf16(
  values: Uint16Array,
  blockSize: number,
  codes: Uint8Array,
  absmax: Float32Array,
): number {
  const table = tableOfCodes();
  const full = Math.floor(values.length / blockSize);
  const pairs = new Int32Array(values.buffer, values.byteOffset, values.length >> 1);
  const absmaxBits = new Uint32Array(absmax.buffer, absmax.byteOffset, absmax.length);
  const blockPairs = blockSize >> 1;
  for (let block = 0; block < full; block++) {
    const start = block * blockPairs;
    const end = start + blockPairs;
    let [low, high] = [0, 0];
    for (let i = start; i < end; i++) {
      low = Math.max(low, pairs[i]! & 0x7fff);
      high = Math.max(high, pairs[i]! & 0x7fff0000);
    }
    const largest = Math.max(low, high >> 16);
    if (largest < SMALLEST_TABLED || largest >= LARGEST_TABLED) {
      const bad = widened(values, block * blockSize, (block + 1) * blockSize, blockSize, codes, absmax);
      if (bad >= 0) return bad;
      continue;
    }
    absmaxBits[block] = largest << 16;
    const row = (largest & 127) << ROW_BITS;
    for (let i = start; i < end; i++) {
      const pair = pairs[i]!;
      const first = row | ((pair & 0x8000) >> 5) | Math.min(DISTANCES - 1, largest - (pair & 0x7fff));
      const second =
        row | ((pair >>> 21) & 0x400) | Math.min(DISTANCES - 1, largest - ((pair >>> 16) & 0x7fff));
      codes[i] = (table[first]! << 4) | table[second]!;
    }
  }
  const rest = full * blockSize;
  return rest < values.length ? widened(values, rest, values.length, blockSize, codes, absmax) : -1;
}

/** Blocks of zeros, of tiny and huge values, and the short last one: by the rule for f32. */
function widened(
  values: Uint16Array,
  start: number,
  end: number,
  blockSize: number,
  codes: Uint8Array,
  absmax: Float32Array,
): number {
  const bad = quantizeNf4Into(
    widen(values.subarray(start, end)),
    blockSize,
    codes.subarray(start >> 1),
    absmax.subarray(start / blockSize),
  );
  return bad < 0 ? -1 : start + bad;
}
