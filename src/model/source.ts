/** Where the frozen weights of a run come from: a folder on disk, or random numbers for measurements. */
import { HostEmbedding, type EmbeddingRows } from "./host_embedding.js";
import type { Architecture } from "./config.js";
import type { TensorSink } from "./entries.js";
import type { ModelFingerprint } from "./fingerprint.js";
import { EMBEDDING_NAME, loadModel, type RowSquares } from "./load.js";
import type { ModelTensors } from "./tensors.js";

export interface ModelSource {
  /** Fills all tensors. @param onBytes called with the bytes handled so far @param fingerprint notes what is read */
  load(
    model: ModelTensors,
    sink: TensorSink,
    onBytes: (bytes: number) => void,
    fingerprint: ModelFingerprint,
  ): Promise<RowSquares>;
  openEmbedding(arch: Architecture): Promise<EmbeddingRows>;
}

export const folderSource = (folder: string): ModelSource => ({
  load: async (model, sink, onBytes, fingerprint) => {
    const rowSquares = await loadModel(folder, model, sink, onBytes, fingerprint);
    // Rows of an embedding that stays on the disk are read while training; it belongs to the model all the same.
    await fingerprint.readTensor(folder, EMBEDDING_NAME);
    return rowSquares;
  },
  openEmbedding: (arch) => HostEmbedding.open(folder, arch),
});
