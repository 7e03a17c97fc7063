/** Where the frozen weights of a run come from: a folder on disk, or random numbers for measurements. */
import { HostEmbedding } from "./host_embedding.js";
import type { Architecture } from "./config.js";
import type { TensorSink } from "./entries.js";
import { loadModel, type RowSquares } from "./load.js";
import type { ModelTensors } from "./tensors.js";

/** Rows of the token embedding, gathered by the host. */
export interface EmbeddingRows {
  /** @returns f32 [tokens, D] */
  rows(tokens: Int32Array): Promise<Float32Array>;
  close(): Promise<void>;
}

export interface ModelSource {
  /** Fills all tensors. @param onBytes called with the bytes handled so far */
  load(model: ModelTensors, sink: TensorSink, onBytes: (bytes: number) => void): Promise<RowSquares>;
  openEmbedding(arch: Architecture): Promise<EmbeddingRows>;
}

export const folderSource = (folder: string): ModelSource => ({
  load: (model, sink, onBytes) => loadModel(folder, model, sink, onBytes),
  openEmbedding: (arch) => HostEmbedding.open(folder, arch),
});
