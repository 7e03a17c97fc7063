/** A table that lies on the GPU as signed bytes with one scale a row: read in pieces of whole rows, checked, quantised, uploaded. */
import type { ReadAhead } from "../formats/read_ahead.js";
import type { TensorEntry } from "../formats/safetensors.js";
import type { Int8Weight } from "../kernels/weight.js";
import { int8RowBytes, quantizeInt8Rows } from "../quant/int8.js";
import type { TensorSink } from "./entries.js";
import { checkFinite, PIECE_VALUES, valueBytes, Widener } from "./stored_values.js";

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/**
 * Quantises rows of a dense tensor on the way.
 * @param entry [rows, in], F32, F16 or BF16
 * @param firstRow the first of `weight.out` rows
 * @throws QdoraError naming file, tensor and index for NaN and infinity
 */
export async function loadInt8(
  reader: ReadAhead,
  entry: TensorEntry,
  firstRow: number,
  weight: Int8Weight,
  sink: TensorSink,
): Promise<void> {
  const { out, in: width } = weight;
  const rowBytes = width * valueBytes(entry);
  const pieceRows = Math.min(out, Math.max(1, Math.floor(PIECE_VALUES / width)));
  const codes = new Int8Array(pieceRows * int8RowBytes(width));
  const absmax = new Float32Array(out);
  const widener = new Widener();
  let row = 0;
  for await (const bytes of reader.pieces(entry, firstRow * rowBytes, out * rowBytes, pieceRows * rowBytes)) {
    checkFinite(bytes, entry, (firstRow + row) * width);
    const rows = bytes.byteLength / rowBytes;
    const piece = codes.subarray(0, rows * int8RowBytes(width));
    quantizeInt8Rows(widener.widen(bytes, entry), width, piece, absmax.subarray(row, row + rows));
    await sink.write(weight.codes, bytesOf(piece), row * int8RowBytes(width));
    row += rows;
  }
  await sink.write(weight.absmax, bytesOf(absmax));
}
