/** One linear module -> GPU: NF4 (quantised on the way, or ready-made) or dense, its bias, and the row norms it starts from. */
import type { Linear } from "../adapter/linear.js";
import { readBnbNf4, type BnbNf4 } from "../formats/bitsandbytes.js";
import type { Checkpoint } from "../formats/checkpoint.js";
import type { ReadAhead } from "../formats/read_ahead.js";
import type { TensorEntry } from "../formats/safetensors.js";
import { doubleQuantLayout, type Nf4Weight } from "../kernels/weight.js";
import { dequantizeAbsmax, quantizeAbsmax } from "../quant/double.js";
import { DYNAMIC_MAP } from "../quant/dynamic.js";
import { RowSquares } from "../quant/row_squares.js";
import { padCodeRows } from "../quant/rows.js";
import { loadDense } from "./load_dense.js";
import { findEntry, readVector, type TensorSink } from "./entries.js";
import type { LinearModule } from "./modules.js";
import { quantizedPieces, storedPieces, type CodePiece } from "./nf4_pieces.js";

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/**
 * @returns [out] ||W_j||^2 of the weight as products see it, if the module has a magnitude
 * @throws QdoraError naming file and tensor
 */
export async function loadLinear(
  checkpoint: Checkpoint,
  reader: ReadAhead,
  m: LinearModule,
  linear: Linear,
  sink: TensorSink,
): Promise<Float32Array | undefined> {
  const { weight, rowSquares } = linear;
  let squares: Float32Array | undefined;
  if (weight.format === "nf4") {
    const rows = rowSquares && new RowSquares(m.out, m.in, weight.blockSize);
    const ready = await readBnbNf4(checkpoint, `${m.path}.weight`);
    const absmax = await (ready
      ? loadReadyNf4(reader, ready, m, weight, rows, sink)
      : quantizeRows(
          reader,
          findEntry(checkpoint, `${m.path}.weight`, [m.out, m.in]),
          0,
          weight,
          rows,
          sink,
        ));
    squares = rows?.finish(absmax());
  } else {
    const entry = findEntry(checkpoint, `${m.path}.weight`, [m.out, m.in]);
    const sums = rowSquares && new Float64Array(m.out);
    await loadDense(reader, entry, 0, weight.values, weight.format, sink, sums);
    squares = sums && Float32Array.from(sums);
  }
  await loadBias(checkpoint, m, linear, sink);
  if (rowSquares && squares) await sink.write(rowSquares, bytesOf(squares));
  return squares;
}

async function loadBias(
  checkpoint: Checkpoint,
  m: LinearModule,
  linear: Linear,
  sink: TensorSink,
): Promise<void> {
  if (!m.bias || !linear.scaleBias) return;
  const bias = await readVector(checkpoint, `${m.path}.bias`, m.out);
  const pairs = new Float32Array(m.out * 2);
  for (let j = 0; j < m.out; j++) pairs.set([1, bias[j] ?? 0], j * 2);
  await sink.write(linear.scaleBias, bytesOf(pairs));
}

/**
 * Quantises rows of a dense tensor on the way.
 * @param firstRow where the weight's rows start in the stored tensor; whole blocks before it
 * @returns how to get the block maxima as products see them
 */
export async function quantizeRows(
  reader: ReadAhead,
  entry: TensorEntry,
  firstRow: number,
  weight: Nf4Weight,
  squares: RowSquares | undefined,
  sink: TensorSink,
): Promise<() => Float32Array> {
  const absmax = new Float32Array(Math.ceil((weight.out * weight.in) / weight.blockSize));
  for await (const piece of quantizedPieces(reader, entry, firstRow, weight, weight.blockSize, absmax))
    await writeCodes(weight, piece, squares, sink);
  if (!weight.doubleQuant) {
    await sink.write(weight.absmax, bytesOf(absmax));
    return () => absmax;
  }
  const double = quantizeAbsmax(absmax, "cuda");
  await writeDouble(weight, double, DYNAMIC_MAP, sink);
  return () => dequantizeAbsmax(double.codes, double.nestedAbsmax, double.offset);
}

async function loadReadyNf4(
  reader: ReadAhead,
  ready: BnbNf4,
  m: LinearModule,
  weight: Nf4Weight,
  squares: RowSquares | undefined,
  sink: TensorSink,
): Promise<() => Float32Array> {
  for await (const piece of storedPieces(reader, ready.codes, m, weight.blockSize))
    await writeCodes(weight, piece, squares, sink);
  if (!ready.doubleQuant) {
    await sink.write(weight.absmax, bytesOf(ready.absmax));
    return () => ready.absmax;
  }
  const { absmaxCodes: codes, nestedAbsmax, offset, nestedMap } = ready;
  await writeDouble(weight, { codes, nestedAbsmax, offset }, nestedMap, sink);
  return () => dequantizeAbsmax(codes, nestedAbsmax, offset, nestedMap);
}

async function writeDouble(
  weight: Nf4Weight,
  double: { readonly codes: Uint8Array; readonly nestedAbsmax: Float32Array; readonly offset: number },
  map: Float32Array,
  sink: TensorSink,
): Promise<void> {
  const { codesWord, words } = doubleQuantLayout(double.codes.length);
  const packed = new Uint32Array(words);
  const floats = new Float32Array(packed.buffer);
  floats.set(map);
  floats[256] = double.offset;
  floats.set(double.nestedAbsmax, 257);
  new Uint8Array(packed.buffer).set(double.codes, 4 * codesWord);
  await sink.write(weight.absmax, bytesOf(packed));
}

/** bitsandbytes' bytes of whole rows; rows that are no whole number of u32 are padded. */
async function writeCodes(
  weight: Nf4Weight,
  { row, rows, codes }: CodePiece,
  squares: RowSquares | undefined,
  sink: TensorSink,
): Promise<void> {
  squares?.add(codes, rows);
  const wholeWords = weight.in % 8 === 0 ? codes : padCodeRows(codes, rows, weight.in);
  await sink.write(weight.codes, wholeWords, row * Math.ceil(weight.in / 8) * 4);
}
