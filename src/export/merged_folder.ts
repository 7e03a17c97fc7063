/** A merged model as a Hugging Face folder: full-precision safetensors, config.json, tokenizer, model card. */
import { existsSync } from "node:fs";
import { mkdir, readFile, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { isObject, readJsonFile } from "../formats/json.js";
import { TOKENIZER_FILES } from "../formats/model_files.js";
import { checkNewFolder, writeFolder } from "../formats/output_folder.js";
import { writeShards, writtenBytes, type StreamedTensor } from "../formats/sharded.js";
import { openMerged, type FloatDtype, type MergedModel, type MergeSource } from "../model/merged.js";
import { quantizeModel } from "../model/quantize.js";
import { floatBytes } from "./float_bytes.js";
import { mergedCard } from "./model_card.js";

export interface MergeOptions extends MergeSource {
  readonly adapter: string;
  /** What the model card calls the base, such as its name on the Hub; default: the folder. */
  readonly baseName?: string | undefined;
  readonly outputDir: string;
  /** Type of all tensors; without it each keeps its stored type. */
  readonly dtype?: FloatDtype | undefined;
  /** Quantise the merged linear weights to NF4 again, in bitsandbytes' layout; the others keep `dtype`. */
  readonly requantize?: { readonly doubleQuant: boolean } | undefined;
  /** Bytes of data in one safetensors file. */
  readonly maxShardBytes: number;
  readonly signal?: AbortSignal | undefined;
}

export interface MergeResult {
  readonly outputDir: string;
  /** safetensors files. */
  readonly files: readonly string[];
  /** Bytes of all tensors. */
  readonly totalBytes: number;
  /** Modules with an adapter. */
  readonly mergedModules: number;
  /** Types that were written. */
  readonly dtypes: readonly FloatDtype[];
  /** Tensors of the model folder that no part of the model needs; they were left out. */
  readonly unused: readonly string[];
}

export interface MergeProgress {
  /** Bytes written so far, of `totalBytes`. */
  readonly bytes: number;
  readonly totalBytes: number;
}

/**
 * Folds the adapter into its base and writes the folder, which appears whole or not at all.
 * @param check is given the finished folder, before it gets its name, and the types in it; what it throws keeps the folder from appearing
 * @throws QdoraError for anything that does not fit, is broken, or cannot be written
 */
export async function mergeAdapter(
  options: MergeOptions,
  onProgress: (progress: MergeProgress) => void = () => undefined,
  check: (folder: string, dtypes: readonly FloatDtype[]) => Promise<void> = () => Promise.resolve(),
): Promise<MergeResult> {
  const { outputDir } = options;
  await refuseSources(options);
  await checkNewFolder(outputDir);
  const merged = await openMerged(options);
  try {
    const tensors = streamed(merged, options.dtype);
    const totalBytes = tensors.reduce((sum, t) => sum + writtenBytes(t), 0);
    const dtypes = [...new Set(tensors.map((t) => t.dtype))].toSorted();
    let written = { files: [] as readonly string[], bytes: totalBytes };
    const write = async (folder: string): Promise<void> => {
      let bytes = 0;
      const { files } = await writeShards(folder, tensors, options.maxShardBytes, (t) => {
        options.signal?.throwIfAborted();
        onProgress({ bytes, totalBytes });
        bytes += writtenBytes(t);
      });
      onProgress({ bytes, totalBytes });
      written = { files, bytes };
      await writeRest(folder, options.model, dtypes);
    };
    // Requantising needs the merged weights beside its own, for a while.
    await writeFolder(outputDir, totalBytes, async (folder) => {
      if (options.requantize) written = await requantized(folder, options, write);
      else await write(folder);
      await writeFileAtomic(join(folder, "README.md"), mergedCard(options, merged, dtypes));
      await check(folder, dtypes);
      options.signal?.throwIfAborted();
    });
    const mergedModules = merged.adapter?.layout.modules.size ?? 0;
    return {
      outputDir,
      files: written.files,
      totalBytes: written.bytes,
      mergedModules,
      dtypes,
      unused: merged.unused,
    };
  } finally {
    await merged.close();
  }
}

/**
 * Merges into a folder of its own, and quantises that.
 * @param folder the temporary output, empty
 * @param write writes the merged model
 */
async function requantized(
  folder: string,
  options: MergeOptions,
  write: (folder: string) => Promise<void>,
): Promise<{ readonly files: readonly string[]; readonly bytes: number }> {
  const dense = `${folder}.dense`;
  try {
    await mkdir(dense);
    await write(dense);
    return await quantizeModel(dense, folder, {
      doubleQuant: options.requantize?.doubleQuant ?? true,
      maxShardBytes: options.maxShardBytes,
      ...(options.signal && { signal: options.signal }),
    });
  } finally {
    await rm(dense, { recursive: true, force: true });
  }
}

/** A folder that is read is no place to write to, whatever it is called. */
async function refuseSources({ outputDir, model, adapter }: MergeOptions): Promise<void> {
  if (!existsSync(outputDir)) return;
  const target = await realpath(outputDir);
  for (const [what, folder] of [
    ["model", model],
    ["adapter", adapter],
  ] as const)
    if (existsSync(folder) && (await realpath(folder)) === target)
      throw new QdoraError(
        outputDir,
        `is the ${what} folder`,
        "name another folder, so that what is read stays as it is",
        { exitCode: 2 },
      );
}

interface WrittenTensor extends StreamedTensor {
  readonly dtype: FloatDtype;
}

function streamed(merged: MergedModel, dtype: FloatDtype | undefined): readonly WrittenTensor[] {
  return merged.tensors.map((t) => {
    const type = dtype ?? t.dtype;
    return {
      name: t.name,
      shape: t.shape,
      dtype: type,
      data: async function* () {
        for await (const values of t.pieces()) yield floatBytes(values, type, t.name);
      },
    };
  });
}

/** config.json without its quantisation, tokenizer files, generation_config.json. */
async function writeRest(folder: string, model: string, dtypes: readonly FloatDtype[]): Promise<void> {
  await writeFileAtomic(
    join(folder, "config.json"),
    `${JSON.stringify(await mergedConfig(model, dtypes), null, 2)}\n`,
  );
  for (const name of [...TOKENIZER_FILES, "generation_config.json"]) {
    const source = join(model, name);
    if (existsSync(source)) await writeFileAtomic(join(folder, name), await readFile(source));
  }
}

const TORCH_NAMES: Readonly<Record<FloatDtype, string>> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
};

async function mergedConfig(
  model: string,
  dtypes: readonly FloatDtype[],
): Promise<Readonly<Record<string, unknown>>> {
  const path = join(model, "config.json");
  const config = await readJsonFile(path, 4 << 20);
  if (!isObject(config)) throw new QdoraError(path, "is not a JSON object", "download the model again");
  const { quantization_config: _, dtype: __, torch_dtype: ___, ...rest } = config;
  const [only] = dtypes;
  // Where tensors differ, readers take each as it is stored.
  if (dtypes.length !== 1 || only === undefined) return rest;
  return { ...rest, ["dtype" in config ? "dtype" : "torch_dtype"]: TORCH_NAMES[only] };
}
