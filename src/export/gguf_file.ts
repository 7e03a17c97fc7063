/** A model, with an adapter folded in or as it is, as one GGUF file for llama.cpp. */
import { existsSync, statSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { QdoraError } from "../formats/error.js";
import { ggufBytes, writeGguf } from "../formats/gguf.js";
import { makeFolder } from "../formats/make_folder.js";
import { checkFreeSpace } from "../formats/disk_space.js";
import { openMerged, type MergeSource } from "../model/merged.js";
import { architectureMetadata, ggufContext } from "./gguf_metadata.js";
import { ggufTensors, type GgufType } from "./gguf_tensors.js";
import { vocabMetadata } from "./gguf_vocab.js";
import type { MergeProgress } from "./merged_folder.js";

export interface ExportOptions extends MergeSource {
  /** Path of the file. */
  readonly output: string;
  /** `general.name`; default: the folder's. */
  readonly name?: string | undefined;
  readonly type: GgufType;
  /** Replaces a file that is there. */
  readonly overwrite: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface ExportResult {
  readonly output: string;
  readonly bytes: number;
  readonly tensors: number;
  /** Positions that the file promises; fewer than the model's where it has a sliding window. */
  readonly context: number;
  readonly modelContext: number;
}

/**
 * Writes the file, which appears whole or not at all.
 * @throws QdoraError for a model, tokenizer or adapter that cannot be said in GGUF, or that is broken
 */
export async function exportGguf(
  options: ExportOptions,
  onProgress: (progress: MergeProgress) => void = () => undefined,
): Promise<ExportResult> {
  const { output, model: folder, type } = options;
  checkTarget(output, options.overwrite);
  const model = await openMerged(options);
  try {
    const { arch } = model;
    const metadata = new Map([
      ...architectureMetadata(arch, type, options.name ?? basename(resolve(folder)), folder),
      ...(await vocabMetadata(folder, arch.vocab)),
    ]);
    const tensors = ggufTensors(model, type);
    const totalBytes = tensors.reduce((sum, t) => sum + ggufBytes(t), 0);
    makeFolder(dirname(resolve(output)));
    await checkFreeSpace(output, totalBytes);
    let done = 0;
    const bytes = await writeGguf(output, metadata, tensors, (t) => {
      options.signal?.throwIfAborted();
      onProgress({ bytes: done, totalBytes });
      done += ggufBytes(t);
    });
    onProgress({ bytes: done, totalBytes });
    return {
      output,
      bytes,
      tensors: tensors.length,
      context: ggufContext(arch),
      modelContext: arch.maxPositions,
    };
  } finally {
    await model.close();
  }
}

function checkTarget(output: string, overwrite: boolean): void {
  const refuse = (fact: string, hint: string): never => {
    throw new QdoraError(output, fact, hint, { exitCode: 2 });
  };
  if (!existsSync(output)) return;
  if (!statSync(output).isFile()) refuse("is not a file", "name a file, for instance model.gguf");
  if (!overwrite) refuse("exists", "name another file, or add --overwrite");
}
