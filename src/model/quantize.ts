/**
 * Model folder -> NF4 model folder as bitsandbytes and transformers write it, a piece of one tensor at a time. Linear weights
 * of the decoder layers are quantised; embeddings, head, norms and biases keep their stored bytes.
 */
import { existsSync } from "node:fs";
import { copyFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  bnbParts,
  bnbStatistics,
  quantizationConfigText,
  quantStateText,
} from "../formats/bitsandbytes_write.js";
import { MAX_STATE_BYTES, stateName } from "../formats/bitsandbytes_write.js";
import type { BnbAbsmax } from "../formats/bitsandbytes.js";
import { openCheckpoint, type Checkpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { insertKey } from "../formats/json_insert.js";
import { TOKENIZER_FILES } from "../formats/model_files.js";
import { checkNewFolder, writeFolder } from "../formats/output_folder.js";
import { ReadAhead } from "../formats/read_ahead.js";
import type { TensorEntry } from "../formats/safetensors.js";
import { plannedBytes, SafetensorsStream, type PlannedTensor } from "../formats/safetensors_stream.js";
import { quantizeAbsmax, type AbsmaxRule } from "../quant/double.js";
import { DYNAMIC_MAP } from "../quant/dynamic.js";
import { readArchitecture } from "./config.js";
import { checkModelHeaders } from "./load.js";
import { allModules, type LinearModule } from "./modules.js";
import { quantizedPieces } from "./nf4_pieces.js";
import { checkFinite, PIECE_VALUES, valueBytes } from "./stored_values.js";

export interface QuantizeOptions {
  readonly doubleQuant: boolean;
  /** Most bytes of one file; a tensor is never split. */
  readonly maxShardBytes?: number;
  /** Which of bitsandbytes' two rules codes the block maxima. */
  readonly rule?: AbsmaxRule;
  readonly signal?: AbortSignal;
  /** Called with the bytes of the model read so far, and of all. */
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
}

export interface QuantizedModel {
  readonly files: readonly string[];
  /** Linear weights that became NF4. */
  readonly quantized: number;
  /** Bytes of all tensors, before and after. */
  readonly sourceBytes: number;
  readonly bytes: number;
}

/** transformers' default. */
export const MAX_SHARD_BYTES = 5e9;
const BLOCK_SIZE = 64;

interface Item {
  readonly entry: TensorEntry;
  /** A linear weight to quantise; others are copied. */
  readonly module?: LinearModule;
  readonly tensors: ReadonlyMap<string, PlannedTensor>;
  readonly late: ReadonlyMap<string, number>;
}

function planItems(
  checkpoint: Checkpoint,
  modules: ReadonlyMap<string, LinearModule>,
  doubleQuant: boolean,
): Item[] {
  const fileOrder = [...checkpoint.tensors.values()].toSorted(
    (a, b) =>
      checkpoint.files.indexOf(a.file) - checkpoint.files.indexOf(b.file) || a.byteOffset - b.byteOffset,
  );
  return fileOrder.map((entry) => {
    const module = modules.get(entry.name);
    if (!module) return { entry, tensors: new Map([[entry.name, entry]]), late: new Map() };
    return {
      entry,
      module,
      tensors: bnbParts(entry.name, { ...module, blockSize: BLOCK_SIZE }, doubleQuant),
      late: new Map([[stateName(entry.name), MAX_STATE_BYTES]]),
    };
  });
}

const merged = <V>(items: readonly Item[], of: (item: Item) => ReadonlyMap<string, V>): Map<string, V> =>
  new Map(items.flatMap((item) => [...of(item)]));

const itemBytes = (items: readonly Item[]): number =>
  plannedBytes(
    merged(items, (i) => i.tensors),
    merged(items, (i) => i.late),
  );

/** Items in order, a new file where the next would make one too large. */
function planShards(items: readonly Item[], maxBytes: number): Item[][] {
  const shards: Item[][] = [];
  let bytes = Infinity;
  for (const item of items) {
    const more = itemBytes([item]);
    if (bytes + more > maxBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)?.push(item);
    bytes += more;
  }
  return shards;
}

/**
 * Writes the NF4 model of a folder.
 * @param out must not exist, or be empty
 * @throws QdoraError naming file and tensor; nothing is left behind then
 */
export async function quantizeModel(
  folder: string,
  out: string,
  options: QuantizeOptions,
): Promise<QuantizedModel> {
  await checkNewFolder(out);
  const arch = await readArchitecture(folder);
  if (arch.quantized)
    throw new QdoraError(
      join(folder, "config.json"),
      "the model is quantised already (quantization_config)",
      "use it as it is, or quantise the model it was made from",
    );
  const checkpoint = await openCheckpoint(folder);
  try {
    await checkModelHeaders(checkpoint, arch);
    const modules = new Map(allModules(arch).map((m) => [`${m.path}.weight`, m]));
    const items = planItems(checkpoint, modules, options.doubleQuant);
    const shards = planShards(items, options.maxShardBytes ?? MAX_SHARD_BYTES);
    const names = shards.map((_, i) =>
      shards.length === 1
        ? "model.safetensors"
        : `model-${String(i + 1).padStart(5, "0")}-of-${String(shards.length).padStart(5, "0")}.safetensors`,
    );
    const needed = shards.reduce((sum, shard) => sum + itemBytes(shard), 0);
    let bytes = 0;
    await writeFolder(out, needed, async (temporary) => {
      const write = tensorWriter(checkpoint, options);
      for (const [i, shard] of shards.entries())
        bytes += await writeShard(join(temporary, names[i] ?? ""), shard, write);
      if (shards.length > 1) await writeIndex(temporary, names, shards, bytes);
      const config = await readFile(join(folder, "config.json"), "utf8");
      await writeFileAtomic(
        join(temporary, "config.json"),
        insertKey(config, "quantization_config", quantizationConfigText(options.doubleQuant)),
      );
      for (const name of ["generation_config.json", ...TOKENIZER_FILES])
        if (existsSync(join(folder, name))) await copyFile(join(folder, name), join(temporary, name));
    });
    return {
      files: names,
      quantized: items.filter((item) => item.module).length,
      sourceBytes: items.reduce((sum, { entry }) => sum + entry.byteLength, 0),
      bytes,
    };
  } finally {
    await checkpoint.close();
  }
}

type WriteItem = (item: Item, file: SafetensorsStream) => Promise<void>;

async function writeShard(path: string, items: readonly Item[], write: WriteItem): Promise<number> {
  const file = await SafetensorsStream.create(
    path,
    merged(items, (i) => i.tensors),
    merged(items, (i) => i.late),
  );
  try {
    for (const item of items) await write(item, file);
    return await file.finish();
  } finally {
    await file.close();
  }
}

/** Reads, quantises and writes one tensor after the other. */
function tensorWriter(checkpoint: Checkpoint, options: QuantizeOptions): WriteItem {
  const reader = new ReadAhead(checkpoint);
  const total = [...checkpoint.tensors.values()].reduce((sum, t) => sum + t.byteLength, 0);
  let done = 0;
  const progress = (bytes: number): void => {
    options.signal?.throwIfAborted();
    options.onProgress?.((done += bytes), total);
  };
  const copy = async (entry: TensorEntry, file: SafetensorsStream): Promise<void> => {
    const isFloat = ["F32", "F16", "BF16"].includes(entry.dtype);
    const pieceBytes = PIECE_VALUES * 2;
    let at = 0;
    for await (const bytes of reader.pieces(entry, 0, entry.byteLength, pieceBytes)) {
      if (isFloat) checkFinite(bytes, entry, at / valueBytes(entry));
      await file.append(entry.name, bytes);
      at += bytes.byteLength;
      progress(bytes.byteLength);
    }
  };
  const quantize = async (entry: TensorEntry, m: LinearModule, file: SafetensorsStream): Promise<void> => {
    const absmax = new Float32Array(Math.ceil((m.out * m.in) / BLOCK_SIZE));
    for await (const piece of quantizedPieces(reader, entry, 0, m, BLOCK_SIZE, absmax)) {
      await file.append(entry.name, piece.codes);
      progress(piece.rows * m.in * valueBytes(entry));
    }
    const stored = storedAbsmax(absmax, options);
    for (const [name, data] of bnbStatistics(entry.name, stored)) await file.append(name, data);
    const weight = { out: m.out, in: m.in, blockSize: BLOCK_SIZE, storedDtype: entry.dtype };
    file.setLate(stateName(entry.name), quantStateText(weight, stored));
  };
  return ({ entry, module }, file) => (module ? quantize(entry, module, file) : copy(entry, file));
}

function storedAbsmax(absmax: Float32Array, { doubleQuant, rule = "cuda" }: QuantizeOptions): BnbAbsmax {
  if (!doubleQuant) return { doubleQuant, absmax };
  const { codes: absmaxCodes, nestedAbsmax, offset } = quantizeAbsmax(absmax, rule);
  return { doubleQuant, absmaxCodes, nestedAbsmax, nestedMap: DYNAMIC_MAP, offset };
}

/** `model.safetensors.index.json`, keys sorted as transformers does. */
async function writeIndex(
  folder: string,
  names: readonly string[],
  shards: readonly (readonly Item[])[],
  totalBytes: number,
): Promise<void> {
  const places = shards.flatMap((items, i) =>
    items.flatMap((item) => [...item.tensors.keys(), ...item.late.keys()].map((name) => [name, names[i]])),
  );
  const weight_map: unknown = Object.fromEntries(places.toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1)));
  const index = { metadata: { total_size: totalBytes }, weight_map };
  await writeFileAtomic(join(folder, "model.safetensors.index.json"), `${JSON.stringify(index, null, 2)}\n`);
}
