/** NF4 codes of a linear weight, some whole rows at a time: quantised from a dense tensor, or as a checkpoint has them. */
import type { ReadAhead } from "../formats/read_ahead.js";
import type { TensorEntry } from "../formats/safetensors.js";
import { PIECE_VALUES, Quantizer, valueBytes } from "./stored_values.js";

/** Rows of codes, in memory that a later piece overwrites. */
export interface CodePiece {
  readonly row: number;
  readonly rows: number;
  /** bitsandbytes' bytes, starting at a whole byte. */
  readonly codes: Uint8Array;
}

interface Matrix {
  readonly out: number;
  readonly in: number;
}

/** Pieces are whole rows and whole blocks, so that each can be quantised and uploaded alone. */
function pieceRows(m: Matrix, blockSize: number): number {
  let rows = 1;
  while ((rows * m.in) % blockSize !== 0) rows *= 2;
  return Math.max(rows, Math.floor(PIECE_VALUES / m.in / rows) * rows);
}

/**
 * Quantises rows of a dense tensor.
 * @param entry [rows, in], F32, F16 or BF16
 * @param firstRow the first of `m.out` rows; whole blocks before it
 * @param absmax [ceil(out * in / blockSize)], filled on the way
 * @throws QdoraError naming file, tensor and index for NaN and infinity
 */
export async function* quantizedPieces(
  reader: ReadAhead,
  entry: TensorEntry,
  firstRow: number,
  m: Matrix,
  blockSize: number,
  absmax: Float32Array,
): AsyncGenerator<CodePiece> {
  const rows = pieceRows(m, blockSize);
  const rowBytes = m.in * valueBytes(entry);
  const codes = new Uint8Array(Math.ceil((Math.min(rows, m.out) * m.in) / 2));
  const quantizer = new Quantizer();
  let row = 0;
  for await (const bytes of reader.pieces(entry, firstRow * rowBytes, m.out * rowBytes, rows * rowBytes)) {
    const count = bytes.byteLength / rowBytes;
    const first = row * m.in;
    quantizer.quantize(
      bytes,
      entry,
      firstRow * m.in + first,
      blockSize,
      codes,
      absmax.subarray(first / blockSize),
    );
    yield { row, rows: count, codes: codes.subarray(0, Math.ceil((count * m.in) / 2)) };
    row += count;
  }
}

/**
 * Codes that are stored.
 * @param codes [ceil(out * in / 2), 1] bytes
 */
export async function* storedPieces(
  reader: ReadAhead,
  codes: TensorEntry,
  m: Matrix,
  blockSize: number,
): AsyncGenerator<CodePiece> {
  // Whole blocks are whole bytes, so that each piece starts at a byte.
  const rows = pieceRows(m, blockSize);
  let row = 0;
  for await (const bytes of reader.pieces(codes, 0, codes.byteLength, (rows * m.in) / 2)) {
    const count = Math.min(rows, m.out - row);
    yield { row, rows: count, codes: bytes };
    row += count;
  }
}
