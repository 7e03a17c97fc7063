/**
 * Blocks of ggml on the CPU, as its reference functions round (quantize_row_q8_0_ref, quantize_row_q4_0_ref): 32 values
 * share an f16 scale; every step is rounded to f32.
 */

export const GGML_BLOCK = 32;
/** Bytes of a block: f16 scale, then the codes. */
export const Q8_0_BYTES = 2 + 32;
export const Q4_0_BYTES = 2 + 16;

const { fround } = Math;

/** C's roundf: halves away from zero. */
const round = (x: number): number => (x < 0 ? -Math.floor(-x + 0.5) : Math.floor(x + 0.5));

/** f16 bits of f32 values, rounded to nearest even. */
export type ToF16 = (values: Float32Array) => Uint16Array;

/** 1 / d, and 0 where d is so small that its f16 is 0 and the codes mean nothing. */
function inverse(d: number): number {
  const value = d === 0 ? 0 : fround(1 / d);
  return Number.isFinite(value) ? value : 0;
}

const checkWhole = (values: Float32Array): void => {
  if (values.length % GGML_BLOCK !== 0) throw new Error(`${values.length} values are no whole blocks`);
};

/**
 * @param values finite, whole blocks
 * @returns per block: d = amax / 127 in f16, then 32 signed bytes round(x / d)
 */
export function quantizeQ8_0(values: Float32Array, toF16: ToF16): Uint8Array {
  checkWhole(values);
  const blocks = values.length / GGML_BLOCK;
  const out = new Uint8Array(blocks * Q8_0_BYTES);
  const scales = new Float32Array(blocks);
  for (let block = 0; block < blocks; block++) {
    const from = block * GGML_BLOCK;
    let largest = 0;
    for (let j = 0; j < GGML_BLOCK; j++) largest = Math.max(largest, Math.abs(values[from + j]!));
    const d = fround(largest / 127);
    const id = inverse(d);
    scales[block] = d;
    const at = block * Q8_0_BYTES + 2;
    for (let j = 0; j < GGML_BLOCK; j++) out[at + j] = round(fround(values[from + j]! * id));
  }
  return withScales(out, toF16(scales), Q8_0_BYTES);
}

/**
 * @param values finite, whole blocks
 * @returns per block: d = (the value of largest magnitude) / -8 in f16, then 16 bytes; the low nibbles are the first half
 */
export function quantizeQ4_0(values: Float32Array, toF16: ToF16): Uint8Array {
  checkWhole(values);
  const blocks = values.length / GGML_BLOCK;
  const out = new Uint8Array(blocks * Q4_0_BYTES);
  const scales = new Float32Array(blocks);
  for (let block = 0; block < blocks; block++) {
    const from = block * GGML_BLOCK;
    let extreme = 0;
    for (let j = 0; j < GGML_BLOCK; j++) {
      const value = values[from + j]!;
      if (Math.abs(value) > Math.abs(extreme)) extreme = value;
    }
    const d = fround(extreme / -8);
    const id = inverse(d);
    scales[block] = d;
    const code = (value: number): number => Math.min(15, Math.trunc(fround(fround(value * id) + 8.5)));
    const at = block * Q4_0_BYTES + 2;
    for (let j = 0; j < 16; j++) out[at + j] = code(values[from + j]!) | (code(values[from + 16 + j]!) << 4);
  }
  return withScales(out, toF16(scales), Q4_0_BYTES);
}

function withScales(out: Uint8Array, halves: Uint16Array, blockBytes: number): Uint8Array {
  for (let block = 0; block < halves.length; block++) {
    out[block * blockBytes] = halves[block]! & 255;
    out[block * blockBytes + 1] = halves[block]! >> 8;
  }
  return out;
}
