/** A tensor that lies on the GPU as numbers of 16 or 32 bits: read in pieces, checked, and uploaded. */
import { f32ToBf16, f32ToF16 } from "../formats/floats.js";
import type { ReadAhead } from "../formats/read_ahead.js";
import type { TensorEntry } from "../formats/safetensors.js";
import type { DenseFormat } from "../kernels/weight.js";
import type { Tensor } from "../program/tensor.js";
import { addRowSquares } from "../quant/rows.js";
import type { TensorSink } from "./entries.js";
import { checkFinite, PIECE_VALUES, valueBytes, Widener } from "./stored_values.js";

const STORED: Readonly<Record<DenseFormat, string>> = { f32: "F32", bf16: "BF16", f16: "F16" };

/** A whole number of u32. */
function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength % 4 === 0) return bytes;
  const out = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  out.set(bytes);
  return out;
}

function converted(values: Float32Array, format: DenseFormat): Uint8Array {
  const out = format === "f32" ? values : format === "bf16" ? f32ToBf16(values) : f32ToF16(values);
  return new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
}

/**
 * Fills a tensor with stored values from `firstValue` on; bits that have the right type already go up as they are.
 * @param squares sums of squares of each row so far, [rows], added to
 * @throws QdoraError naming file, tensor and index for NaN and infinity
 */
export async function loadDense(
  reader: ReadAhead,
  entry: TensorEntry,
  firstValue: number,
  t: Tensor,
  format: DenseFormat,
  sink: TensorSink,
  squares?: Float64Array,
): Promise<void> {
  const count = t.shape.reduce((a, b) => a * b, 1);
  const width = t.shape.at(-1) ?? 1;
  const stored = valueBytes(entry);
  const widener = new Widener();
  let at = 0;
  for await (const bytes of reader.pieces(
    entry,
    firstValue * stored,
    count * stored,
    PIECE_VALUES * stored,
  )) {
    checkFinite(bytes, entry, firstValue + at);
    if (squares) addRowSquares(squares, widener.widen(bytes, entry), at, width);
    const isStored = entry.dtype === STORED[format];
    const packed = isStored ? bytes : converted(widener.widen(bytes, entry), format);
    await sink.write(t, padded(packed), at * (format === "f32" ? 4 : 2));
    at += bytes.byteLength / stored;
  }
}
