/**
 * Model weights that come in pieces, written to one safetensors file or to several with an index, as `save_pretrained`
 * names them. Nothing is held but the piece at hand.
 */
import { join } from "node:path";
import { writeFileAtomic } from "./files.js";
import { tensorBytes } from "./safetensors.js";
import { SafetensorsStream, type PlannedTensor } from "./safetensors_stream.js";

export interface StreamedTensor extends PlannedTensor {
  readonly name: string;
  /** Little-endian bytes in order; together they must be all bytes of the tensor. */
  data(): AsyncIterable<Uint8Array>;
}

export interface WrittenShards {
  /** File names, without the index. */
  readonly files: readonly string[];
  /** Bytes of all tensors, headers not counted. */
  readonly totalBytes: number;
}

/** Bytes of a tensor's data. */
export function writtenBytes({ shape, dtype }: PlannedTensor): number {
  const bytes = tensorBytes(shape, dtype);
  if (bytes === undefined) throw new Error(`${dtype} [${shape.join(", ")}] is too large for a file`);
  return bytes;
}

/** Tensors of one file, in the order they were given; a tensor that is larger than `maxBytes` gets a file of its own. */
export function planShards<T extends StreamedTensor>(
  tensors: readonly T[],
  maxBytes: number,
): readonly (readonly T[])[] {
  const shards: T[][] = [];
  let size = Infinity;
  for (const t of tensors) {
    const bytes = writtenBytes(t);
    if (size + bytes > maxBytes) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1)?.push(t);
    size += bytes;
  }
  return shards;
}

const five = (n: number): string => String(n).padStart(5, "0");

/**
 * Writes `model.safetensors`, or `model-00001-of-0000N.safetensors` and `model.safetensors.index.json`.
 * @param folder a temporary one: what is in it after a failure is not a model
 * @param maxShardBytes bytes of data in one file
 * @param onTensor called before each tensor; may throw to stop
 * @throws QdoraError if a file cannot be written
 */
export async function writeShards(
  folder: string,
  tensors: readonly StreamedTensor[],
  maxShardBytes: number,
  onTensor: (t: StreamedTensor) => void = () => undefined,
): Promise<WrittenShards> {
  const shards = planShards(tensors, maxShardBytes);
  const nameOf = (i: number): string =>
    shards.length === 1 ? "model.safetensors" : `model-${five(i + 1)}-of-${five(shards.length)}.safetensors`;
  for (const [i, shard] of shards.entries()) await writeShard(join(folder, nameOf(i)), shard, onTensor);
  const totalBytes = tensors.reduce((sum, t) => sum + writtenBytes(t), 0);
  if (shards.length > 1) {
    const weightMap = shards.flatMap((shard, i) => shard.map((t) => [t.name, nameOf(i)] as const));
    const index = { metadata: { total_size: totalBytes }, weight_map: Object.fromEntries(weightMap) };
    await writeFileAtomic(
      join(folder, "model.safetensors.index.json"),
      `${JSON.stringify(index, null, 2)}\n`,
    );
  }
  return { files: shards.map((_, i) => nameOf(i)), totalBytes };
}

async function writeShard(
  path: string,
  tensors: readonly StreamedTensor[],
  onTensor: (t: StreamedTensor) => void,
): Promise<void> {
  const file = await SafetensorsStream.create(path, new Map(tensors.map((t) => [t.name, t])), new Map());
  try {
    for (const t of tensors) {
      onTensor(t);
      for await (const piece of t.data()) await file.append(t.name, piece);
    }
    await file.finish();
  } finally {
    await file.close();
  }
}
