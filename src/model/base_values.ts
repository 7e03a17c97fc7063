/**
 * The values of a model folder's tensors in f32, in pieces of whole rows: as they are stored, or as NF4 leaves them, which
 * is what training over a quantised base computes with. Host memory stays near one piece, or one tensor's codes.
 */
import { readBnbNf4 } from "../formats/bitsandbytes.js";
import type { Checkpoint } from "../formats/checkpoint.js";
import { ReadAhead } from "../formats/read_ahead.js";
import { dequantizeAbsmax, quantizeAbsmax } from "../quant/double.js";
import { dequantizeNf4 } from "../quant/nf4.js";
import { findEntry } from "./entries.js";
import { quantizedPieces } from "./nf4_pieces.js";
import { checkFinite, PIECE_VALUES, valueBytes, Widener } from "./stored_values.js";

export interface Piece {
  readonly firstRow: number;
  /** [rows, width] f32, memory of its own. */
  readonly values: Float32Array;
}

/** How a tensor is cut into pieces. */
export interface Cut {
  /** Pieces but the last have a multiple of so many rows (default 1). */
  readonly multiple?: number | undefined;
  /** Values of a piece, about (default 4 Mi). */
  readonly pieceValues?: number | undefined;
}

/** A dense base taken as NF4 leaves it. */
export interface Nf4Base {
  readonly blockSize: number;
  readonly doubleQuant: boolean;
}

/** Rows to take at a time, in whole blocks. */
function pieceRows(width: number, blockSize: number, cut: Cut): number {
  let step = cut.multiple ?? 1;
  while ((step * width) % blockSize !== 0) step *= 2;
  return Math.max(step, Math.floor((cut.pieceValues ?? PIECE_VALUES) / width / step) * step);
}

/**
 * A dense tensor as stored.
 * @param shape [rows, width], or [width] for one row
 * @throws QdoraError naming file and tensor, also for NaN and infinity
 */
export async function* storedPieces(
  checkpoint: Checkpoint,
  name: string,
  shape: readonly number[],
  cut: Cut = {},
): AsyncGenerator<Piece> {
  const entry = findEntry(checkpoint, name, shape);
  const width = shape.at(-1) ?? 1;
  const rows = shape.length === 1 ? 1 : (shape[0] ?? 1);
  const step = pieceRows(width, 1, cut);
  for (let firstRow = 0; firstRow < rows; firstRow += step) {
    const [first, count] = [firstRow * width, Math.min(step, rows - firstRow) * width];
    const bytes = await checkpoint.read(entry, first * valueBytes(entry), count * valueBytes(entry));
    checkFinite(bytes, entry, first);
    yield { firstRow, values: new Widener().widen(bytes, entry) };
  }
}

/** A weight that the folder holds in NF4. @returns undefined if it holds it dense */
export async function readyNf4Pieces(
  checkpoint: Checkpoint,
  name: string,
  cut: Cut = {},
): Promise<AsyncGenerator<Piece> | undefined> {
  const header = await readBnbNf4(checkpoint, name, { headerOnly: true });
  return header && readyPieces(checkpoint, name, cut);
}

async function* readyPieces(checkpoint: Checkpoint, name: string, cut: Cut): AsyncGenerator<Piece> {
  const ready = await readBnbNf4(checkpoint, name);
  if (!ready) return;
  const absmax = ready.doubleQuant
    ? dequantizeAbsmax(ready.absmaxCodes, ready.nestedAbsmax, ready.offset, ready.nestedMap)
    : ready.absmax;
  yield* decoded(await checkpoint.read(ready.codes), absmax, ready.shape, ready.blockSize, cut);
}

/** A dense weight quantised and restored, by the rules of loading it for training. */
export async function* requantisedPieces(
  checkpoint: Checkpoint,
  name: string,
  shape: readonly [number, number],
  { blockSize, doubleQuant }: Nf4Base,
  cut: Cut = {},
): AsyncGenerator<Piece> {
  const [rows, width] = shape;
  const codes = new Uint8Array(Math.ceil((rows * width) / 2));
  const absmax = new Float32Array(Math.ceil((rows * width) / blockSize));
  const entry = findEntry(checkpoint, name, shape);
  const matrix = { out: rows, in: width };
  const reader = new ReadAhead(checkpoint);
  for await (const piece of quantizedPieces(reader, entry, 0, matrix, blockSize, absmax))
    codes.set(piece.codes, (piece.row * width) / 2);
  if (!doubleQuant) {
    yield* decoded(codes, absmax, shape, blockSize, cut);
    return;
  }
  const double = quantizeAbsmax(absmax, "cuda");
  const restored = dequantizeAbsmax(double.codes, double.nestedAbsmax, double.offset);
  yield* decoded(codes, restored, shape, blockSize, cut);
}

function* decoded(
  codes: Uint8Array,
  absmax: Float32Array,
  [rows, width]: readonly [number, number],
  blockSize: number,
  cut: Cut,
): Generator<Piece> {
  const step = pieceRows(width, blockSize, cut);
  for (let firstRow = 0; firstRow < rows; firstRow += step) {
    const flat = firstRow * width;
    const count = Math.min(step, rows - firstRow) * width;
    const values = dequantizeNf4(
      codes.subarray(flat / 2),
      absmax.subarray(flat / blockSize),
      count,
      blockSize,
    );
    yield { firstRow, values };
  }
}
