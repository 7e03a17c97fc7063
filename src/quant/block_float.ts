/**
 * Block floating point with 16 bits a value, for activations that wait: four values as whole numbers of 14 bits that
 * share a power of two. Against bf16, whose error is up to 2^-9 of each value, it is up to 2^-13 of a block's largest
 * one, in the same bytes; it covers 2^-96 to the largest f32, so nothing overflows. Never in files.
 */
const LARGEST = 8191;

/** Blocks of two words: m0 (14 bits), m1 (14), low half of the exponent (4) | m2 (14), m3 (14), its high half (4). */
const BLOCK = 4;

const real = new Float32Array(1);
const bits = new Uint32Array(real.buffer);

/** 2^(field - 127), or 0 and infinity at the ends, as f32's exponent field has it. */
function power(field: number): number {
  bits[0] = field << 23;
  return real[0]!;
}

function exponentOf(value: number): number {
  real[0] = value;
  return (bits[0]! >>> 23) & 255;
}

function halfToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/**
 * Rounds to nearest, ties to even, as far as 14 bits go. A block below 2^-96 becomes zero, one with NaN or infinity
 * infinite.
 * @param src its length a multiple of 4
 * @returns the blocks' bits, 16 a value
 */
export function packBlocks(src: Float32Array): Uint16Array {
  const out = new Uint32Array(src.length / 2);
  for (let i = 0; i < src.length; i += BLOCK) {
    let field = 0;
    for (let j = i; j < i + BLOCK; j++) field = Math.max(field, exponentOf(src[j]!));
    if (field < 31) continue;
    const e = field === 255 ? 255 : field - 30;
    const scale = field === 255 ? 0 : power(266 - field);
    const m = (j: number): number => {
      if (field === 255) return 1;
      const rounded = halfToEven(src[i + j]! * scale);
      return Math.max(-LARGEST, Math.min(LARGEST, rounded)) & 0x3fff;
    };
    out[i / 2] = (m(0) << 18) | (m(1) << 4) | (e & 15);
    out[i / 2 + 1] = (m(2) << 18) | (m(3) << 4) | (e >> 4);
  }
  return new Uint16Array(out.buffer);
}

/** @param src bits of whole blocks, as `packBlocks` gives them */
export function unpackBlocks(src: Uint16Array): Float32Array {
  const words = new Uint32Array(src.slice().buffer);
  const out = new Float32Array(src.length);
  for (let i = 0; i < src.length; i += BLOCK) {
    const [x = 0, y = 0] = words.subarray(i / 2, i / 2 + 2);
    const scale = power((x & 15) | ((y & 15) << 4));
    const tops = [x, x << 14, y, y << 14];
    for (const [j, top] of tops.entries()) out[i + j] = (top & 0xfffc0000) * scale;
  }
  return out;
}
