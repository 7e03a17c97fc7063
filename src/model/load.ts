/**
 * Model folder -> tensors on the GPU, quantised on the way, a piece of one tensor at a time: host memory stays near one
 * piece plus the block maxima of one tensor, whatever the model's size.
 */
import { readBnbNf4, type BnbNf4 } from "../formats/bitsandbytes.js";
import { openCheckpoint, readAsF32, type Checkpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import type { TensorEntry } from "../formats/safetensors.js";
import { f32ToBf16, f32ToF16 } from "../formats/floats.js";
import { doubleQuantLayout, type DenseFormat, type Nf4Weight } from "../kernels/weight.js";
import { dequantizeAbsmax, DYNAMIC_MAP, quantizeAbsmax } from "../quant/double.js";
import { dequantizeNf4, findNonFinite, quantizeNf4 } from "../quant/nf4.js";
import { addRowSquares, padCodeRows } from "../quant/rows.js";
import type { Linear } from "../adapter/linear.js";
import type { Tensor } from "../program/tensor.js";
import type { Architecture } from "./config.js";
import type { LinearModule, Role } from "./modules.js";
import { layerModules, layerPath } from "./modules.js";
import type { LinearFormat, ModelTensors, TablePart } from "./tensors.js";
import { ropeTable } from "./rope_table.js";

/** Where loaded bytes go: the executor, or the reference's memory. */
export interface TensorSink {
  write(t: Tensor, bytes: Uint8Array, offsetBytes?: number): Promise<void> | void;
}

/** Values read and handled at a time; a multiple of every block size. */
const PIECE_VALUES = 4 << 20;

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** A whole number of u32. */
function padded(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength % 4 === 0) return bytes;
  const out = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  out.set(bytes);
  return out;
}

/** The checkpoint's entry, checked for shape and a float type. @throws QdoraError naming file and tensor. */
export function findEntry(checkpoint: Checkpoint, name: string, shape: readonly number[]): TensorEntry {
  const entry = checkpoint.tensors.get(name);
  if (!entry)
    throw new QdoraError(
      checkpoint.folder,
      `the tensor ${name} is missing`,
      "the folder does not fit its config.json; download it again",
    );
  if (entry.shape.length !== shape.length || entry.shape.some((n, i) => n !== shape[i])) {
    throw new QdoraError(
      entry.file,
      `${name} has shape [${entry.shape.join(", ")}], config.json says [${shape.join(", ")}]`,
    );
  }
  if (!["F32", "F16", "BF16"].includes(entry.dtype))
    throw new QdoraError(entry.file, `${name} has dtype ${entry.dtype} (supported: F32, F16, BF16)`);
  return entry;
}

/** Reads values of a tensor in f32 and refuses NaN and infinity by name and index. */
async function readFinite(
  checkpoint: Checkpoint,
  entry: TensorEntry,
  first: number,
  count: number,
): Promise<Float32Array> {
  const values = await readAsF32(checkpoint, entry, first, count);
  const bad = findNonFinite(values);
  if (bad >= 0) {
    throw new QdoraError(
      entry.file,
      `${entry.name} holds ${values[bad]} at index ${first + bad}`,
      "the file is damaged or the model was saved broken; download it again",
    );
  }
  return values;
}

/** The stored type of a tensor as a dense format. */
export function storedFormat(checkpoint: Checkpoint, name: string, shape: readonly number[]): DenseFormat {
  const { dtype } = findEntry(checkpoint, name, shape);
  return dtype === "BF16" ? "bf16" : dtype === "F16" ? "f16" : "f32";
}

/** How each linear module will lie on the GPU, from the checkpoint and what was asked for. */
export async function linearFormats(
  checkpoint: Checkpoint,
  arch: Architecture,
  quant: "nf4" | "none",
  doubleQuant: boolean,
): Promise<(module: LinearModule) => LinearFormat> {
  const ready = new Map<string, LinearFormat>();
  for (const m of Array.from({ length: arch.layers }, (_, i) => layerModules(arch, i)).flat()) {
    const name = `${m.path}.weight`;
    const stored = arch.quantized ? await readBnbNf4(checkpoint, name, { headerOnly: true }) : undefined;
    if (stored) {
      if (quant === "none")
        throw new QdoraError(
          checkpoint.folder,
          `${name} is stored in NF4, but quant is none`,
          "use quant nf4 with this model",
          { exitCode: 2 },
        );
      ready.set(m.path, { format: "nf4", blockSize: stored.blockSize, doubleQuant: stored.doubleQuant });
    } else {
      const format = storedFormat(checkpoint, name, [m.out, m.in]);
      // What a ready-made checkpoint leaves dense is dense for every reader of it.
      ready.set(
        m.path,
        quant === "nf4" && !arch.quantized ? { format: "nf4", blockSize: 64, doubleQuant } : { format },
      );
    }
  }
  return (m) => ready.get(m.path) ?? { format: "f32" };
}

/** ||W_j||^2 of every module with a magnitude, by path: what fresh magnitudes start from. */
export type RowSquares = ReadonlyMap<string, Float32Array>;

/**
 * Fills all tensors of a model.
 * @param onProgress called with the bytes of the checkpoint handled so far
 * @throws QdoraError naming file and tensor for anything missing, misshapen or not finite
 */
export async function loadModel(
  folder: string,
  model: ModelTensors,
  sink: TensorSink,
  onProgress: (bytes: number) => void = () => undefined,
): Promise<RowSquares> {
  const checkpoint = await openCheckpoint(folder);
  const rowSquares = new Map<string, Float32Array>();
  let bytes = 0;
  const done = (name: string): void => {
    bytes += checkpoint.tensors.get(name)?.byteLength ?? 0;
    onProgress(bytes);
  };
  try {
    const { arch } = model;
    await loadTable(checkpoint, "model.embed_tokens.weight", model.embedding, arch, sink);
    done("model.embed_tokens.weight");
    if (!arch.tied) {
      await loadTable(checkpoint, "lm_head.weight", model.head, arch, sink);
      done("lm_head.weight");
    }
    await loadVector(checkpoint, model.finalNorm, sink);
    await sink.write(
      model.ropeTable,
      bytesOf(ropeTable(arch.rope, arch.headDim, model.ropeTable.shape[0] ?? 0)),
    );
    for (const layer of model.layers) {
      for (const norm of [layer.inputNorm, layer.postNorm, layer.qNorm, layer.kNorm])
        if (norm) await loadVector(checkpoint, norm, sink);
      for (const module of layerModules(arch, layer.layer)) {
        const squares = await loadLinear(checkpoint, module, layer.linears[module.role satisfies Role], sink);
        if (squares) rowSquares.set(module.path, squares);
        done(`${module.path}.weight`);
      }
    }
    return rowSquares;
  } finally {
    await checkpoint.close();
  }
}

async function loadVector(checkpoint: Checkpoint, t: Tensor, sink: TensorSink): Promise<void> {
  const entry = findEntry(checkpoint, t.name, t.shape);
  await sink.write(t, bytesOf(await readFinite(checkpoint, entry, 0, t.shape[0] ?? 0)));
}

/** Embedding or head: stored bits go up as they are. */
async function loadTable(
  checkpoint: Checkpoint,
  name: string,
  parts: readonly TablePart[],
  arch: Architecture,
  sink: TensorSink,
): Promise<void> {
  const entry = findEntry(checkpoint, name, [arch.vocab, arch.hidden]);
  for (const { firstRow, weight } of parts)
    await loadDense(checkpoint, entry, firstRow * arch.hidden, weight.values, weight.format, sink);
}

async function loadDense(
  checkpoint: Checkpoint,
  entry: TensorEntry,
  firstValue: number,
  t: Tensor,
  format: DenseFormat,
  sink: TensorSink,
): Promise<void> {
  const count = t.shape.reduce((a, b) => a * b, 1);
  for (let at = 0; at < count; at += PIECE_VALUES) {
    const values = await readFinite(checkpoint, entry, firstValue + at, Math.min(PIECE_VALUES, count - at));
    const packed = format === "f32" ? values : format === "bf16" ? f32ToBf16(values) : f32ToF16(values);
    await sink.write(t, padded(bytesOf(packed)), at * (format === "f32" ? 4 : 2));
  }
}

async function loadLinear(
  checkpoint: Checkpoint,
  m: LinearModule,
  linear: Linear,
  sink: TensorSink,
): Promise<Float32Array | undefined> {
  const squares = linear.rowSquares ? new Float64Array(m.out) : undefined;
  const { weight } = linear;
  const name = `${m.path}.weight`;
  if (weight.format === "nf4") {
    const ready = await readBnbNf4(checkpoint, name);
    await (ready
      ? loadReadyNf4(ready, m, weight, squares, sink)
      : quantizeLinear(checkpoint, m, weight, squares, sink));
  } else {
    const entry = findEntry(checkpoint, name, [m.out, m.in]);
    await loadDense(checkpoint, entry, 0, weight.values, weight.format, sink);
    if (squares) {
      const rows = Math.max(1, Math.floor(PIECE_VALUES / m.in));
      for (let row = 0; row < m.out; row += rows) {
        const count = Math.min(rows, m.out - row) * m.in;
        addRowSquares(squares, await readAsF32(checkpoint, entry, row * m.in, count), row * m.in, m.in);
      }
    }
  }
  await loadBias(checkpoint, m, linear, sink);
  if (!linear.rowSquares || !squares) return undefined;
  const stored = Float32Array.from(squares);
  await sink.write(linear.rowSquares, bytesOf(stored));
  return stored;
}

async function loadBias(
  checkpoint: Checkpoint,
  m: LinearModule,
  linear: Linear,
  sink: TensorSink,
): Promise<void> {
  if (!m.bias) return;
  const bias = await readFinite(checkpoint, findEntry(checkpoint, `${m.path}.bias`, [m.out]), 0, m.out);
  if (linear.bias) await sink.write(linear.bias, bytesOf(bias));
  else if (linear.scaleBias) {
    const pairs = new Float32Array(m.out * 2);
    for (let j = 0; j < m.out; j++) pairs.set([1, bias[j] ?? 0], j * 2);
    await sink.write(linear.scaleBias, bytesOf(pairs));
  }
}

/** Pieces are whole rows and whole blocks, so that each can be quantised and uploaded alone. */
function pieceRows(m: LinearModule, blockSize: number): number {
  let rows = 1;
  while ((rows * m.in) % blockSize !== 0) rows *= 2;
  return Math.max(rows, Math.floor(PIECE_VALUES / m.in / rows) * rows);
}

async function quantizeLinear(
  checkpoint: Checkpoint,
  m: LinearModule,
  weight: Nf4Weight,
  squares: Float64Array | undefined,
  sink: TensorSink,
): Promise<void> {
  const entry = findEntry(checkpoint, `${m.path}.weight`, [m.out, m.in]);
  const absmax = new Float32Array(Math.ceil((m.out * m.in) / weight.blockSize));
  const rows = pieceRows(m, weight.blockSize);
  const codesOf = new Map<number, Uint8Array>();
  for (let row = 0; row < m.out; row += rows) {
    const count = Math.min(rows, m.out - row) * m.in;
    const piece = quantizeNf4(await readFinite(checkpoint, entry, row * m.in, count), weight.blockSize);
    absmax.set(piece.absmax, (row * m.in) / weight.blockSize);
    await writeCodes(weight, piece.codes, row, count / m.in, sink);
    if (squares && !weight.doubleQuant)
      addRowSquares(
        squares,
        dequantizeNf4(piece.codes, piece.absmax, count, weight.blockSize),
        row * m.in,
        m.in,
      );
    else if (squares) codesOf.set(row, piece.codes);
  }
  if (!weight.doubleQuant) {
    await sink.write(weight.absmax, bytesOf(absmax));
    return;
  }
  const double = quantizeAbsmax(absmax, "cuda");
  await writeDouble(weight, double, DYNAMIC_MAP, sink);
  if (!squares) return;
  const restored = dequantizeAbsmax(double.codes, double.nestedAbsmax, double.offset);
  for (const [row, codes] of codesOf) {
    const count = Math.min(rows, m.out - row) * m.in;
    const firstBlock = (row * m.in) / weight.blockSize;
    addRowSquares(
      squares,
      dequantizeNf4(codes, restored.subarray(firstBlock), count, weight.blockSize),
      row * m.in,
      m.in,
    );
  }
}

async function loadReadyNf4(
  ready: BnbNf4,
  m: LinearModule,
  weight: Nf4Weight,
  squares: Float64Array | undefined,
  sink: TensorSink,
): Promise<void> {
  await writeCodes(weight, ready.codes, 0, m.out, sink);
  if (ready.doubleQuant)
    await writeDouble(
      weight,
      { codes: ready.absmaxCodes, nestedAbsmax: ready.nestedAbsmax, offset: ready.offset },
      ready.nestedMap,
      sink,
    );
  else await sink.write(weight.absmax, bytesOf(ready.absmax));
  if (!squares) return;
  const absmax = ready.doubleQuant
    ? dequantizeAbsmax(ready.absmaxCodes, ready.nestedAbsmax, ready.offset, ready.nestedMap)
    : ready.absmax;
  addRowSquares(squares, dequantizeNf4(ready.codes, absmax, m.out * m.in, weight.blockSize), 0, m.in);
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
  codes: Uint8Array,
  row: number,
  rows: number,
  sink: TensorSink,
): Promise<void> {
  const wholeWords = weight.in % 8 === 0 ? codes : padCodeRows(codes, rows, weight.in);
  await sink.write(weight.codes, wholeWords, row * Math.ceil(weight.in / 8) * 4);
}

/** Checks every tensor that this architecture needs by name, shape and type, from headers alone. */
export async function checkModelHeaders(checkpoint: Checkpoint, arch: Architecture): Promise<void> {
  findEntry(checkpoint, "model.embed_tokens.weight", [arch.vocab, arch.hidden]);
  if (!arch.tied) findEntry(checkpoint, "lm_head.weight", [arch.vocab, arch.hidden]);
  findEntry(checkpoint, "model.norm.weight", [arch.hidden]);
  for (let layer = 0; layer < arch.layers; layer++) {
    const path = layerPath(layer);
    for (const norm of ["input_layernorm", "post_attention_layernorm"])
      findEntry(checkpoint, `${path}.${norm}.weight`, [arch.hidden]);
    if (arch.qkNorm)
      for (const norm of ["q_norm", "k_norm"])
        findEntry(checkpoint, `${path}.self_attn.${norm}.weight`, [arch.headDim]);
    for (const m of layerModules(arch, layer)) {
      const ready = arch.quantized
        ? await readBnbNf4(checkpoint, `${m.path}.weight`, { headerOnly: true })
        : undefined;
      if (ready && (ready.shape[0] !== m.out || ready.shape[1] !== m.in)) {
        throw new QdoraError(
          checkpoint.folder,
          `${m.path}.weight has shape [${ready.shape.join(", ")}], config.json says [${m.out}, ${m.in}]`,
        );
      }
      if (!ready) findEntry(checkpoint, `${m.path}.weight`, [m.out, m.in]);
      if (m.bias) findEntry(checkpoint, `${m.path}.bias`, [m.out]);
    }
  }
}
