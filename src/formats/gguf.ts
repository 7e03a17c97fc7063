/**
 * GGUF files (version 3, little-endian), written only: metadata with types, tensor descriptions, then the tensors, each at
 * a multiple of 32 bytes. Sizes are known before the first byte, so that tensors are streamed.
 */
import { writeAtomically } from "./files.js";

export type GgufValue =
  | { readonly type: "u32"; readonly value: number }
  | { readonly type: "f32"; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "i32s"; readonly value: Int32Array }
  | { readonly type: "f32s"; readonly value: Float32Array };

export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** ggml's types: number, values in a block, bytes of a block. */
export const GGML_TYPES = {
  F32: { id: 0, block: 1, bytes: 4 },
  F16: { id: 1, block: 1, bytes: 2 },
  Q4_0: { id: 2, block: 32, bytes: 18 },
  Q8_0: { id: 8, block: 32, bytes: 34 },
} as const;
export type GgmlType = keyof typeof GGML_TYPES;

export interface GgufTensor {
  readonly name: string;
  /** Outermost first, as in safetensors; the file has it the other way round. */
  readonly shape: readonly number[];
  readonly type: GgmlType;
  /** Bytes in order; together they must be all bytes of the tensor. */
  data(): AsyncIterable<Uint8Array>;
}

const MAGIC = "GGUF";
const VERSION = 3;
const ALIGNMENT = 32;
const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

const aligned = (n: number): number => Math.ceil(n / ALIGNMENT) * ALIGNMENT;

/** @throws Error if rows are no whole blocks */
export function ggufBytes({ name, shape, type }: Omit<GgufTensor, "data">): number {
  const { block, bytes } = GGML_TYPES[type];
  if ((shape.at(-1) ?? 1) % block !== 0)
    throw new Error(`${name}: rows of ${shape.at(-1)} values are no whole blocks of ${type}`);
  return (shape.reduce((a, b) => a * b, 1) / block) * bytes;
}

const u32 = (value: number): Buffer => {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
};
const u64 = (value: number): Buffer => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(BigInt(value));
  return out;
};
const f32 = (value: number): Buffer => {
  const out = Buffer.alloc(4);
  out.writeFloatLE(value);
  return out;
};
function text(value: string): readonly Buffer[] {
  const bytes = Buffer.from(value, "utf8");
  return [u64(bytes.length), bytes];
}
const array = (type: number, count: number): readonly Buffer[] => [
  u32(VALUE_TYPES.array),
  u32(type),
  u64(count),
];
const bytesOf = (a: ArrayBufferView): Buffer => Buffer.from(a.buffer, a.byteOffset, a.byteLength);

/** Type and value. Typed arrays are in the machine's order: little-endian on everything that runs Node with a GPU. */
function encode(v: GgufValue): readonly Buffer[] {
  switch (v.type) {
    case "u32":
      return [u32(VALUE_TYPES.u32), u32(v.value)];
    case "f32":
      return [u32(VALUE_TYPES.f32), f32(v.value)];
    case "bool":
      return [u32(VALUE_TYPES.bool), Buffer.from([v.value ? 1 : 0])];
    case "string":
      return [u32(VALUE_TYPES.string), ...text(v.value)];
    case "strings":
      return [...array(VALUE_TYPES.string, v.value.length), ...v.value.flatMap(text)];
    case "i32s":
      return [...array(VALUE_TYPES.i32, v.value.length), bytesOf(v.value)];
    case "f32s":
      return [...array(VALUE_TYPES.f32, v.value.length), bytesOf(v.value)];
    default:
      throw new Error(`unknown value ${String(v satisfies never)}`);
  }
}

/** Everything before the first tensor, padded. */
export function ggufHeader(metadata: GgufMetadata, tensors: readonly Omit<GgufTensor, "data">[]): Uint8Array {
  const parts: Buffer[] = [Buffer.from(MAGIC), u32(VERSION), u64(tensors.length), u64(metadata.size)];
  for (const [key, value] of metadata) parts.push(...text(key), ...encode(value));
  let offset = 0;
  for (const t of tensors) {
    parts.push(...text(t.name), u32(t.shape.length), ...t.shape.toReversed().map(u64));
    parts.push(u32(GGML_TYPES[t.type].id), u64(offset));
    offset = aligned(offset + ggufBytes(t));
  }
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat(parts, aligned(length));
}

/**
 * Writes a file, which appears whole or not at all.
 * @param onTensor called before each tensor; may throw to stop
 * @returns its bytes
 * @throws QdoraError if it cannot be written
 */
export async function writeGguf(
  path: string,
  metadata: GgufMetadata,
  tensors: readonly GgufTensor[],
  onTensor: (t: GgufTensor) => void = () => undefined,
): Promise<number> {
  const header = ggufHeader(metadata, tensors);
  let size = header.length;
  await writeAtomically(path, async (handle) => {
    await handle.writeFile(header);
    for (const t of tensors) {
      onTensor(t);
      const bytes = ggufBytes(t);
      let written = 0;
      for await (const piece of t.data()) {
        await handle.writeFile(piece);
        written += piece.byteLength;
      }
      if (written !== bytes) throw new Error(`${t.name}: ${written} bytes of data for ${bytes}`);
      await handle.writeFile(new Uint8Array(aligned(bytes) - bytes));
      size += aligned(bytes);
    }
  });
  return size;
}
