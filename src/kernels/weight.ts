/** How the weight matrices that products read lie on the GPU. Descriptions only; the loader fills the tensors. */
import type { Tensor } from "../program/tensor.js";

export type DenseFormat = "f32" | "bf16" | "f16";

export interface DenseWeight {
  readonly format: DenseFormat;
  readonly out: number;
  readonly in: number;
  /** [out, in], flat; bf16 and f16 packed two to a u32. */
  readonly values: Tensor;
}

/** bitsandbytes' NF4: blocks run over the flattened matrix and may cross rows. */
export interface Nf4Weight {
  readonly format: "nf4";
  readonly out: number;
  readonly in: number;
  readonly blockSize: number;
  /** u32 [out, ceil(in / 8)]: bitsandbytes' bytes, each row padded to whole words. In a byte the first value is the high nibble. */
  readonly codes: Tensor;
  /** Block maxima: f32 [blocks]; with double quantisation u32 as `doubleQuantLayout` says. */
  readonly absmax: Tensor;
  readonly doubleQuant: boolean;
}

/** A row of signed bytes with one scale: value = code / 127 * absmax, code -127 .. 127. For the head alone. */
export interface Int8Weight {
  readonly format: "int8";
  readonly out: number;
  readonly in: number;
  /** u32 [out, ceil(in / 4)]: each row padded to whole words, the first value in the lowest byte. */
  readonly codes: Tensor;
  /** f32 [out] row maxima. */
  readonly absmax: Tensor;
}

/**
 * Double-quantised block maxima in one tensor of u32, so that a product needs one binding less: the bits of 256 map entries, of the
 * offset, of one nested absmax per 256 blocks; then the 8-bit codes of all blocks, four to a word.
 * @returns the first word of the codes, and the words in all
 */
export function doubleQuantLayout(blocks: number): { readonly codesWord: number; readonly words: number } {
  const codesWord = 257 + Math.ceil(blocks / 256);
  return { codesWord, words: codesWord + Math.ceil(blocks / 4) };
}

/** The weight of a linear module. */
export type LinearWeight = Nf4Weight | DenseWeight;

/** A frozen matrix W [out, in]. */
export type Weight = LinearWeight | Int8Weight;

/** Bytes a product must read of a weight at least once. */
export function weightBytes(w: Weight): number {
  const count = w.out * w.in;
  switch (w.format) {
    case "f32":
      return 4 * count;
    case "bf16":
    case "f16":
      return 2 * count;
    case "int8":
      return count + 4 * w.out;
    case "nf4":
      return count / 2 + (w.doubleQuant ? 1 : 4) * Math.ceil(count / w.blockSize);
    default:
      throw new Error(`unknown weight format ${String(w satisfies never)}`);
  }
}
