// One product y = x Wt [tokens, out] and its data, the same in every process. W is 4 bits in two ways: NF4, and int4 with a scale
// for each block, as MatMulNBits has it. Peers without 4 bits multiply by the dequantised NF4 matrix.
import { NF4_TABLE } from "../../dist/quant/nf4.js";

export const BLOCK = 64;

/** Even numbers in [-0.5, 0.5): a hash, so that nothing repeats along rows or columns. */
const uniform = (i, salt) => {
  let h = Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(salt, 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
  return ((h ^ (h >>> 15)) >>> 0) / 2 ** 32 - 0.5;
};

/** @returns x [tokens, inputs], codes [out * inputs] of 4 bits each, block scales [out * inputs / 64] */
export function makeProblem(tokens, [inputs, out]) {
  const count = inputs * out;
  return {
    tokens,
    inputs,
    out,
    x: Float32Array.from({ length: tokens * inputs }, (_, i) => uniform(i, 1)),
    codes: Uint8Array.from({ length: count }, (_, i) => (uniform(i, 2) + 0.5) * 16),
    scales: Float32Array.from({ length: count / BLOCK }, (_, i) => 0.05 * (uniform(i, 3) + 1)),
  };
}

/** W [out, inputs]. @param format nf4 or int4 */
export function dequantised({ codes, scales }, format) {
  const level = Float32Array.from({ length: 16 }, (_, code) =>
    format === "nf4" ? NF4_TABLE[code] : code - 8,
  );
  return Float32Array.from(codes, (code, i) => level[code] * scales[Math.floor(i / BLOCK)]);
}

/** Wt [inputs, out], as a matrix product takes it. */
export function transposed({ inputs, out }, w) {
  const t = new Float32Array(w.length);
  for (let m = 0; m < out; m++) for (let k = 0; k < inputs; k++) t[k * out + m] = w[m * inputs + k];
  return t;
}

/** Two codes a byte. @param firstIsHigh as bitsandbytes packs; MatMulNBits has the first in the low half */
export function packed({ codes }, firstIsHigh) {
  return Uint8Array.from({ length: codes.length / 2 }, (_, i) => {
    const [first, second] = [codes[2 * i], codes[2 * i + 1]];
    return firstIsHigh ? (first << 4) | second : first | (second << 4);
  });
}
