/** The token embedding of a model on disk: the host gathers the rows of a micro-batch, so that the table never is on the GPU. */
import { openCheckpoint, type Checkpoint } from "../formats/checkpoint.js";
import type { TensorEntry } from "../formats/safetensors.js";
import type { Architecture } from "./config.js";
import { findEntry } from "./entries.js";
import { EMBEDDING_NAME } from "./load.js";
import { checkFinite, valueBytes, Widener } from "./stored_values.js";

/** Reads that are under way together. */
const READS = 32;

/** Rows of the token embedding, gathered by the host. */
export interface EmbeddingRows {
  /** @returns f32 [tokens, D] */
  rows(tokens: Int32Array): Promise<Float32Array>;
  close(): Promise<void>;
}

export class HostEmbedding implements EmbeddingRows {
  readonly #checkpoint: Checkpoint;
  readonly #entry: TensorEntry;
  readonly #width: number;

  private constructor(checkpoint: Checkpoint, entry: TensorEntry, width: number) {
    this.#checkpoint = checkpoint;
    this.#entry = entry;
    this.#width = width;
  }

  static async open(folder: string, arch: Architecture): Promise<HostEmbedding> {
    const checkpoint = await openCheckpoint(folder);
    return new HostEmbedding(
      checkpoint,
      findEntry(checkpoint, EMBEDDING_NAME, [arch.vocab, arch.hidden]),
      arch.hidden,
    );
  }

  /**
   * @param tokens ids below the vocabulary size
   * @returns f32 [tokens, D]
   * @throws QdoraError naming file, tensor and index for NaN and infinity
   */
  async rows(tokens: Int32Array): Promise<Float32Array> {
    const width = this.#width;
    const out = new Float32Array(tokens.length * width);
    const places = new Map<number, number[]>();
    for (const [t, id] of tokens.entries()) {
      const known = places.get(id);
      if (known) known.push(t);
      else places.set(id, [t]);
    }
    const ids = [...places.keys()].toSorted((a, b) => a - b);
    for (let at = 0; at < ids.length; at += READS) {
      const rows = await Promise.all(ids.slice(at, at + READS).map((id) => this.#row(id)));
      for (const [i, row] of rows.entries())
        for (const t of places.get(ids[at + i] ?? 0) ?? []) out.set(row, t * width);
    }
    return out;
  }

  async #row(id: number): Promise<Float32Array> {
    const rowBytes = this.#width * valueBytes(this.#entry);
    const bytes = await this.#checkpoint.read(this.#entry, id * rowBytes, rowBytes);
    checkFinite(bytes, this.#entry, id * this.#width);
    return new Widener().widen(bytes, this.#entry);
  }

  close(): Promise<void> {
    return this.#checkpoint.close();
  }
}
