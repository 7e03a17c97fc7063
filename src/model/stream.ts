/**
 * One micro-batch as a stream of tokens, and how its activations are stored while they wait. Everything but attention
 * works on one token at a time, so it runs chunk by chunk: what a layer needs only inside a chunk never exists whole.
 */
import { callConvertRows } from "../kernels/convert_rows.js";
import type { Call } from "../program/kernel.js";
import { rowsOf, tensor, type Tensor } from "../program/tensor.js";
import { callDownload, callUpload } from "../program/transfer.js";
import type { Architecture } from "./config.js";

export type ActivationType = "f32" | "bf16" | "bfp16";

/** How activations are stored between the calls that make and use them, and what products may round. */
export interface StreamStorage {
  /** Tokens of a chunk: a multiple of 128, or at least the capacity. */
  readonly chunk: number;
  /** q, k and v while attention reads them. */
  readonly attention: ActivationType;
  /** Layer inputs that wait for backward, and where they wait. */
  readonly checkpoint: ActivationType;
  /** How attention's output, and the sum behind it, wait for backward where a layer keeps them. */
  readonly kept: "f32" | "bfp16";
  readonly checkpointPlace: "gpu" | "host";
  /** The host gathers embedding rows; the table is not on the GPU. */
  readonly hostEmbedding: boolean;
  /**
   * Products with frozen weights and attention may compute in f16, where the adapter has matrix units: what the loss depends on with
   * inputs split into sums of two or in f32, what gradients alone depend on with rounded inputs. Sums stay f32.
   */
  readonly halfProducts: boolean;
}

/** Everything f32, whole and on the GPU. */
export const PLAIN_STORAGE: StreamStorage = {
  chunk: Infinity,
  attention: "f32",
  checkpoint: "f32",
  kept: "f32",
  checkpointPlace: "gpu",
  hostEmbedding: false,
  halfProducts: false,
};

/** Tokens `first` and following of the stream. */
export interface Chunk {
  readonly first: number;
  /** Tokens at capacity: the shape of tensors. */
  readonly rows: number;
  /** Tokens of this micro-batch, at most `rows`; 0 past its end. */
  readonly N: number;
}

/** What all layers of one micro-batch share. */
export interface StreamContext {
  readonly arch: Architecture;
  /** Tokens of this program, and the most it can ever have (tensor shapes). */
  readonly N: number;
  readonly capacity: number;
  readonly chunks: readonly Chunk[];
  readonly storage: StreamStorage;
  /** u32 [capacity] position of each token in its sequence. */
  readonly positions: Tensor;
  /** u32 [capacity, 2] start and end of each token's sequence in the stream. */
  readonly spans: Tensor;
  readonly ropeTable: Tensor;
  /** cos and sin are scaled by this (yarn); 1 elsewhere. */
  readonly ropeScale: number;
}

export function chunksOf(N: number, capacity: number, size: number): readonly Chunk[] {
  const chunks: Chunk[] = [];
  for (let first = 0; first < capacity; first += size) {
    const rows = Math.min(size, capacity - first);
    chunks.push({ first, rows, N: Math.min(Math.max(N - first, 0), rows) });
  }
  return chunks;
}

/** Calls that work on a chunk. */
export const inChunk = (c: Chunk, calls: readonly Call[]): readonly Call[] =>
  calls.map((call) => ({ ...call, chunk: `${c.first} to ${c.first + c.rows}` }));

/** The rows of a chunk of a tensor over the whole stream. */
export const chunkRows = (t: Tensor, c: Chunk): Tensor => rowsOf(t, c.first, c.rows);

/** Rows as f32: themselves, or unpacked into a tensor of the chunk. */
export function f32Rows(label: string, rows: Tensor, N: number): readonly [Tensor, readonly Call[]] {
  if (rows.dtype === "f32") return [rows, []];
  const [count = 0, width = 0] = rows.shape;
  const x = tensor(`${label} f32`, [count, width]);
  return [x, [callConvertRows(label, { x: rows, y: x }, { N, width })]];
}

/** The host's name of a layer input that waits there. */
export const checkpointName = (layer: number): string => `checkpoint ${layer}`;

/** Layer inputs between forward and backward. */
export interface Checkpoints {
  /** f32 [capacity, D] where forward has the input of a layer (for the last layer plus one: the output of the decoder). */
  stream(layer: number): Tensor;
  /** After the input of a layer is complete. */
  save(layer: number): readonly Call[];
  /** Before backward of a layer. */
  fetch(layer: number): readonly Call[];
  /** The input's rows of a chunk in f32. `use` tells places apart that unpack it anew. */
  rows(layer: number, chunk: Chunk, use: string): readonly [Tensor, readonly Call[]];
  /** The input's rows of a chunk as they are stored. */
  stored(layer: number, chunk: Chunk): Tensor;
  /**
   * What a layer put out, as the input of the next one is stored, and what brings it: minus the residual it is what down_proj made.
   * Nothing where it is gone, or in bf16, whose rounding of the sum is as large as that.
   */
  output(layer: number, chunk: Chunk): readonly [Tensor, readonly Call[]] | undefined;
}

/**
 * @param layers layers of the model; the decoder's output is never rounded
 * @param lowest the first layer that has backward: the inputs of those below wait for nothing
 */
export function checkpointsOf(ctx: StreamContext, layers: number, lowest: number): Checkpoints {
  const { N, capacity, arch, storage } = ctx;
  const D = arch.hidden;
  const { checkpoint, checkpointPlace } = storage;
  const input = (layer: number): Tensor => tensor(`input.${layer}`, [capacity, D], checkpoint, "checkpoint");
  const stream = tensor("stream", [capacity, D]);
  if (checkpoint === "f32" && checkpointPlace === "gpu") {
    return {
      stream: (layer) => (layer < lowest ? stream : input(layer)),
      save: () => [],
      fetch: () => [],
      rows: (layer, chunk) => [chunkRows(input(layer), chunk), []],
      stored: (layer, chunk) => chunkRows(input(layer), chunk),
      output: (layer, chunk) => [chunkRows(input(layer + 1), chunk), []],
    };
  }
  const tellsOutput = checkpoint !== "bf16";
  const waits = (layer: number): boolean => layer >= lowest && layer < layers;
  const pack = (layer: number, y: Tensor): readonly Call[] =>
    ctx.chunks.flatMap((c) =>
      inChunk(c, [
        callConvertRows(
          `layers.${layer} checkpoint`,
          { x: chunkRows(stream, c), y: chunkRows(y, c) },
          { N: c.N, width: D },
        ),
      ]),
    );
  if (checkpointPlace === "gpu") {
    return {
      stream: () => stream,
      save: (layer) => (waits(layer) ? pack(layer, input(layer)) : []),
      fetch: () => [],
      rows: (layer, chunk, use) =>
        f32Rows(`input.${layer}[${chunk.first}] ${use}`, chunkRows(input(layer), chunk), chunk.N),
      stored: (layer, chunk) => chunkRows(input(layer), chunk),
      output: (layer, chunk) =>
        tellsOutput && waits(layer + 1) ? [chunkRows(input(layer + 1), chunk), []] : undefined,
    };
  }
  const rowBytes = D * (checkpoint === "f32" ? 4 : 2);
  const bytes = N * rowBytes;
  const fetched = (layer: number): Tensor => tensor(`fetched.${layer}`, [capacity, D], checkpoint);
  return {
    stream: () => stream,
    save(layer) {
      if (!waits(layer)) return [];
      const label = `layers.${layer} checkpoint`;
      if (checkpoint === "f32") return [callDownload(label, stream, checkpointName(layer), bytes)];
      const packed = tensor(`packed.${layer}`, [capacity, D], checkpoint);
      return [...pack(layer, packed), callDownload(label, packed, checkpointName(layer), bytes)];
    },
    fetch: (layer) => [
      callUpload(`layers.${layer} checkpoint`, fetched(layer), checkpointName(layer), bytes),
    ],
    rows: (layer, chunk, use) =>
      f32Rows(`input.${layer}[${chunk.first}] ${use}`, chunkRows(fetched(layer), chunk), chunk.N),
    stored: (layer, chunk) => chunkRows(fetched(layer), chunk),
    output(layer, chunk) {
      // The input of the layer above is still here, and the decoder's output never left.
      if (checkpoint === "f32") return [chunkRows(waits(layer + 1) ? fetched(layer + 1) : stream, chunk), []];
      if (!tellsOutput || !waits(layer + 1)) return undefined;
      const rows = tensor(`fetched.${layer + 1}[${chunk.first}]`, [chunk.rows, D], checkpoint);
      const [name, from] = [checkpointName(layer + 1), chunk.first * rowBytes];
      return [rows, [callUpload(`layers.${layer} output`, rows, name, chunk.N * rowBytes, from)]];
    },
  };
}
