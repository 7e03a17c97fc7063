/** Values as checkpoints store them (F32, F16, BF16), a piece at a time: checked to be finite, widened or quantised. */
import { QdoraError } from "../formats/error.js";
import { BF16_EXPONENT, bf16ToF32, F16_EXPONENT, f16ToF32, findNonFinite16 } from "../formats/floats.js";
import type { TensorEntry } from "../formats/safetensors.js";
import { findNonFinite, quantizeNf4Into } from "../quant/nf4.js";
import { quantizeNf4Bf16 } from "../quant/nf4_bf16.js";

/** Values read and handled at a time; a multiple of every block size. */
export const PIECE_VALUES = 4 << 20;

/** Bytes of a stored value. */
export const valueBytes = (entry: TensorEntry): number => (entry.dtype === "F32" ? 4 : 2);

const halves = (bytes: Uint8Array): Uint16Array =>
  new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 1);

/** Stored values as f32, in memory that the next call overwrites. */
export class Widener {
  #scratch = new Float32Array(0);

  /** @param bytes at a whole u32 of their buffer */
  widen(bytes: Uint8Array, entry: TensorEntry): Float32Array {
    if (entry.dtype === "F32") return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
    const half = halves(bytes);
    if (this.#scratch.length < half.length) this.#scratch = new Float32Array(half.length);
    const out = this.#scratch.subarray(0, half.length);
    return entry.dtype === "BF16" ? bf16ToF32(half, out) : f16ToF32(half, out);
  }
}

/**
 * Refuses NaN and infinity.
 * @param firstValue place of the piece in its tensor
 * @throws QdoraError naming file, tensor and index
 */
export function checkFinite(bytes: Uint8Array, entry: TensorEntry, firstValue: number): void {
  const bad =
    entry.dtype === "F32"
      ? findNonFinite(new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2))
      : findNonFinite16(halves(bytes), entry.dtype === "BF16" ? BF16_EXPONENT : F16_EXPONENT);
  if (bad >= 0) throw notFinite(bytes, entry, bad, firstValue);
}

function notFinite(bytes: Uint8Array, entry: TensorEntry, at: number, firstValue: number): QdoraError {
  const size = valueBytes(entry);
  const [value] = new Widener().widen(bytes.slice(at * size, (at + 1) * size), entry);
  return new QdoraError(
    entry.file,
    `${entry.name} holds ${value} at index ${firstValue + at}`,
    "the file is damaged or the model was saved broken; download it again",
  );
}

/** Quantises stored values to NF4; BF16 without widening. */
export class Quantizer {
  readonly #widener = new Widener();

  /**
   * @param bytes at a whole u32 of their buffer; the piece starts at a block
   * @param codes at least half as many bytes as values, overwritten
   * @param absmax one value for each block, overwritten
   * @throws QdoraError naming file, tensor and index for NaN and infinity
   */
  quantize(
    bytes: Uint8Array,
    entry: TensorEntry,
    firstValue: number,
    blockSize: number,
    codes: Uint8Array,
    absmax: Float32Array,
  ): void {
    const bad =
      entry.dtype === "BF16"
        ? quantizeNf4Bf16(halves(bytes), blockSize, codes, absmax)
        : quantizeNf4Into(this.#widener.widen(bytes, entry), blockSize, codes, absmax);
    if (bad >= 0) throw notFinite(bytes, entry, bad, firstValue);
  }
}
