/**
 * Random weights of a realistic size for measurements of memory and speed: nothing is downloaded, and every tensor is
 * written as a loader would. Row norms are what such weights have on average, so that DoRA starts near g = 1.
 */
import type { Linear } from "../adapter/linear.js";
import { f32ToBf16, f32ToF16 } from "../formats/floats.js";
import { doubleQuantLayout, type Nf4Weight, type Weight } from "../kernels/weight.js";
import { RandomSource } from "../program/random.js";
import { tensorBytes, type Tensor } from "../program/tensor.js";
import { DYNAMIC_MAP } from "../quant/dynamic.js";
import { NF4_TABLE } from "../quant/nf4.js";
import type { TensorSink } from "./entries.js";
import type { RowSquares } from "./load.js";
import { ropeTable } from "./rope_table.js";
import type { ModelSource } from "./source.js";
import type { ModelTensors } from "./tensors.js";

/** Values that are made; longer tensors repeat them. */
const BLOCK_VALUES = 1 << 20;
/** Standard deviation of weights, and the block maximum that fits it. */
const SCALE = 0.02;
const ABSMAX = 0.05;

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** @param seed the same numbers for the same seed */
export function randomSource(seed: number): ModelSource {
  const random = new RandomSource(seed, 0);
  const values = Float32Array.from(
    { length: BLOCK_VALUES },
    () => SCALE * Math.sqrt(12) * (random.nextUniform() - 0.5),
  );
  const words = Uint32Array.from({ length: BLOCK_VALUES }, () => random.nextU32());
  const blocks = { f32: bytesOf(values), bf16: bytesOf(f32ToBf16(values)), f16: bytesOf(f32ToF16(values)) };
  return {
    load: (model, sink) => fillModel(model, sink, bytesOf(words), blocks),
    async openEmbedding(arch) {
      return {
        rows: async (tokens) => {
          const rows = new Float32Array(tokens.length * arch.hidden);
          for (const [t, id] of tokens.entries()) {
            const at = (id * arch.hidden) % (BLOCK_VALUES - arch.hidden);
            rows.set(values.subarray(at, at + arch.hidden), t * arch.hidden);
          }
          return rows;
        },
        close: async () => undefined,
      };
    },
  };
}

/** Fills a tensor with a block of bytes, again and again. */
async function repeat(t: Tensor, block: Uint8Array, sink: TensorSink): Promise<void> {
  const bytes = tensorBytes(t);
  for (let at = 0; at < bytes; at += block.byteLength)
    await sink.write(t, block.subarray(0, Math.min(block.byteLength, bytes - at)), at);
}

type DenseBlocks = Readonly<Record<"f32" | "bf16" | "f16", Uint8Array>>;

async function fillModel(
  model: ModelTensors,
  sink: TensorSink,
  words: Uint8Array,
  blocks: DenseBlocks,
): Promise<RowSquares> {
  const fill = async (weight: Weight): Promise<void> => {
    if (weight.format === "nf4") await fillNf4(weight, words, sink);
    else if (weight.format === "int8") {
      await repeat(weight.codes, words, sink);
      await sink.write(weight.absmax, bytesOf(new Float32Array(weight.out).fill(ABSMAX)));
    } else await repeat(weight.values, blocks[weight.format], sink);
  };
  const ones = async (t: Tensor | undefined): Promise<void> => {
    if (t) await sink.write(t, bytesOf(new Float32Array(t.shape[0] ?? 0).fill(1)));
  };
  for (const { weight } of model.embedding) await fill(weight);
  if (model.head !== model.embedding) for (const { weight } of model.head) await fill(weight);
  await ones(model.finalNorm);
  const table = ropeTable(model.arch.rope, model.arch.headDim, model.ropeTable.shape[0] ?? 0);
  await sink.write(model.ropeTable, bytesOf(table));
  const squares = new Map<string, Float32Array>();
  for (const layer of model.layers) {
    for (const norm of [layer.inputNorm, layer.postNorm, layer.qNorm, layer.kNorm]) await ones(norm);
    for (const linear of Object.values(layer.linears)) {
      await fill(linear.weight);
      await fillSmall(linear, squares, sink);
    }
  }
  return squares;
}

async function fillNf4(weight: Nf4Weight, words: Uint8Array, sink: TensorSink): Promise<void> {
  await repeat(weight.codes, words, sink);
  const blocks = Math.ceil((weight.out * weight.in) / weight.blockSize);
  if (!weight.doubleQuant) {
    await sink.write(weight.absmax, bytesOf(new Float32Array(blocks).fill(ABSMAX)));
    return;
  }
  const { codesWord, words: count } = doubleQuantLayout(blocks);
  const packed = new Float32Array(count);
  packed.set(DYNAMIC_MAP);
  // Code 127 is 0: every block maximum is the offset.
  packed[256] = ABSMAX;
  packed.fill(1, 257, codesWord);
  new Uint8Array(packed.buffer).fill(127, 4 * codesWord);
  await sink.write(weight.absmax, bytesOf(packed));
}

async function fillSmall(
  linear: Linear,
  squares: Map<string, Float32Array>,
  sink: TensorSink,
): Promise<void> {
  const { weight, rowSquares, scaleBias } = linear;
  const mean =
    weight.format === "nf4"
      ? ABSMAX ** 2 * (NF4_TABLE.reduce((sum, level) => sum + level ** 2, 0) / NF4_TABLE.length)
      : SCALE ** 2;
  const rows = new Float32Array(weight.out).fill(mean * weight.in);
  if (rowSquares) {
    await sink.write(rowSquares, bytesOf(rows));
    squares.set(linear.path, rows);
  }
  if (scaleBias?.shape[1] === 2) {
    await sink.write(
      scaleBias,
      bytesOf(Float32Array.from({ length: 2 * weight.out }, (_, i) => (i + 1) % 2)),
    );
  }
}
