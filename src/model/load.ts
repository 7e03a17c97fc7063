/**
 * Model folder -> tensors on the GPU, quantised on the way, a piece of one tensor at a time: host memory stays near one
 * piece plus the block maxima of one tensor, whatever the model's size.
 */
import { readBnbNf4 } from "../formats/bitsandbytes.js";
import { openCheckpoint, type Checkpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import { ReadAhead } from "../formats/read_ahead.js";
import type { DenseFormat } from "../kernels/weight.js";
import type { Tensor } from "../program/tensor.js";
import type { Architecture } from "./config.js";
import { findEntry, normWidths, readVector, type TensorSink } from "./entries.js";
import type { ModelFingerprint } from "./fingerprint.js";
import { loadDense } from "./load_dense.js";
import { loadInt8 } from "./load_int8.js";
import { loadLinear, quantizeRows } from "./load_linear.js";
import type { LinearModule, Role } from "./modules.js";
import { layerModules } from "./modules.js";
import type { LinearFormat, ModelTensors, TablePart } from "./tensors.js";
import { ropeTable } from "./rope_table.js";

export { findEntry, type TensorSink };

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

export const EMBEDDING_NAME = "model.embed_tokens.weight";

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
 * @param fingerprint if given, notes what is read
 * @throws QdoraError naming file and tensor for anything missing, misshapen or not finite
 */
export async function loadModel(
  folder: string,
  model: ModelTensors,
  sink: TensorSink,
  onProgress: (bytes: number) => void = () => undefined,
  fingerprint?: ModelFingerprint,
): Promise<RowSquares> {
  const opened = await openCheckpoint(folder);
  const checkpoint = fingerprint ? fingerprint.watch(opened) : opened;
  const reader = new ReadAhead(checkpoint);
  const rowSquares = new Map<string, Float32Array>();
  let bytes = 0;
  const done = (name: string): void => {
    bytes += checkpoint.tensors.get(name)?.byteLength ?? 0;
    onProgress(bytes);
  };
  try {
    const { arch } = model;
    await loadTable(checkpoint, reader, EMBEDDING_NAME, model.embedding, arch, sink);
    done(EMBEDDING_NAME);
    if (model.head !== model.embedding) {
      const name = arch.tied ? EMBEDDING_NAME : "lm_head.weight";
      await loadTable(checkpoint, reader, name, model.head, arch, sink);
      if (!arch.tied) done(name);
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
        const squares = await loadLinear(
          checkpoint,
          reader,
          module,
          layer.linears[module.role satisfies Role],
          sink,
        );
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
  await sink.write(t, bytesOf(await readVector(checkpoint, t.name, t.shape[0] ?? 0)));
}

/** Embedding or head: stored bits go up as they are, or quantised. */
async function loadTable(
  checkpoint: Checkpoint,
  reader: ReadAhead,
  name: string,
  parts: readonly TablePart[],
  arch: Architecture,
  sink: TensorSink,
): Promise<void> {
  const entry = findEntry(checkpoint, name, [arch.vocab, arch.hidden]);
  for (const { firstRow, weight } of parts) {
    if (weight.format === "nf4") await quantizeRows(reader, entry, firstRow, weight, undefined, sink);
    else if (weight.format === "int8") await loadInt8(reader, entry, firstRow, weight, sink);
    else await loadDense(reader, entry, firstRow * arch.hidden, weight.values, weight.format, sink);
  }
}

/** Checks every tensor that this architecture needs by name, shape and type, from headers alone. */
export async function checkModelHeaders(checkpoint: Checkpoint, arch: Architecture): Promise<void> {
  findEntry(checkpoint, EMBEDDING_NAME, [arch.vocab, arch.hidden]);
  if (!arch.tied) findEntry(checkpoint, "lm_head.weight", [arch.vocab, arch.hidden]);
  for (const [name, width] of normWidths(arch)) findEntry(checkpoint, name, [width]);
  for (let layer = 0; layer < arch.layers; layer++) {
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
