/** The host's side of a run: embedding rows of the micro-batch at hand, streamed layers, layer inputs that wait for backward. */
import { LayerCache } from "../model/layer_cache.js";
import type { TensorSink } from "../model/entries.js";
import { hostStateBytes, layerBytesName, scaleBytesName } from "../model/layer_stream.js";
import { EMBEDDING_ROWS, lowestTrained } from "../model/programs.js";
import { checkpointName } from "../model/stream.js";
import type { EmbeddingRows } from "../model/host_embedding.js";
import type { ModelSource } from "../model/source.js";
import type { ModelTensors } from "../model/tensors.js";
import { memoryOf, tensorBytes, type Tensor } from "../program/tensor.js";
import type { HostStore } from "../program/transfer.js";
import type { SessionRun } from "./prepare.js";

type Place = ReturnType<typeof memoryOf>;

/** Where streamed layers' scales lie, by tensor: their arena is the buffer that all layers share. */
const scalePlaces = ({ ring, layers }: ModelTensors): ReadonlyMap<string, Place> =>
  new Map(
    layers.slice(ring?.firstLayer ?? layers.length).flatMap((w) =>
      Object.values(w.linears).flatMap(({ scaleBias }): [string, Place][] => {
        if (scaleBias?.kind !== "row_norm") return [];
        return [[scaleBias.name, { ...memoryOf(scaleBias), name: scaleBytesName(w.layer) }]];
      }),
    ),
  );

export class RunHost implements HostStore {
  /** Streamed layers; the loader fills it. */
  readonly layers: LayerCache;
  readonly #embedding: EmbeddingRows | undefined;
  readonly #layerNames: ReadonlyMap<string, number>;
  /** Row squares; trained state, gradients and scales of streamed layers. Zero at the start. */
  readonly #states: ReadonlyMap<string, Uint8Array>;
  readonly #scales: ReadonlyMap<string, Place>;
  readonly #checkpoints = new Map<string, Uint8Array>();
  readonly #checkpointBytes: number;
  #tokens = new Int32Array();

  private constructor(run: SessionRun, layers: LayerCache, embedding: EmbeddingRows | undefined) {
    this.layers = layers;
    this.#embedding = embedding;
    const { rowSquares } = run.model;
    const bytes = [...hostStateBytes(run.model)];
    if (rowSquares) bytes.push([rowSquares.name, tensorBytes(rowSquares)]);
    this.#states = new Map(bytes.map(([name, count]) => [name, new Uint8Array(count)]));
    this.#scales = scalePlaces(run.model);
    this.#layerNames = new Map(run.model.layers.map((w) => [layerBytesName(w.layer), w.layer]));
    const kept = run.model.layers.slice(lowestTrained(run.model));
    this.#checkpointBytes = (run.host.get("checkpoints") ?? 0) / kept.length;
    for (const w of kept) this.#checkpoints.set(checkpointName(w.layer), new Uint8Array());
  }

  /** @param cacheFolder where `layer_cache: disk` puts its file */
  static async open(run: SessionRun, source: ModelSource, cacheFolder: string): Promise<RunHost> {
    const { settings, model, storage, arch } = run;
    const folder = settings.layer_cache === "disk" && model.ring ? cacheFolder : undefined;
    const layers = await LayerCache.create(model, folder);
    try {
      return new RunHost(run, layers, storage.hostEmbedding ? await source.openEmbedding(arch) : undefined);
    } catch (error) {
      await layers.close();
      throw error;
    }
  }

  /** The tokens whose embedding rows the next program asks for. */
  setTokens(tokens: Int32Array): void {
    this.#tokens = tokens.slice();
  }

  async read(name: string, bytes: number, offsetBytes: number): Promise<Uint8Array> {
    if (name === EMBEDDING_ROWS && this.#embedding) {
      const rows = await this.#embedding.rows(this.#tokens);
      return new Uint8Array(rows.buffer, offsetBytes, bytes);
    }
    const layer = this.#layerNames.get(name);
    if (layer !== undefined)
      return (await this.layers.read(layer)).subarray(offsetBytes, offsetBytes + bytes);
    const waiting = this.#states.get(name) ?? this.#checkpoints.get(name);
    if (!waiting) throw new Error(`the host has no ${name}`);
    return waiting.subarray(offsetBytes, offsetBytes + bytes);
  }

  /** A sink for the loader: what stays here stays, all else goes on. */
  before(sink: TensorSink): TensorSink {
    const onward = this.layers.before(sink);
    return {
      write: (t, bytes, offsetBytes = 0) => {
        const state = this.stateOf(t);
        if (!state) return onward.write(t, bytes, offsetBytes);
        state.set(bytes, offsetBytes);
      },
    };
  }

  /** A tensor's bytes among those that are kept here; undefined for tensors on the GPU. */
  stateOf(t: Tensor): Uint8Array | undefined {
    const whole = this.#states.get(t.name);
    if (whole) return whole;
    const { name, offsetBytes } = this.#scales.get(t.name) ?? memoryOf(t);
    return this.#states.get(name)?.subarray(offsetBytes, offsetBytes + tensorBytes(t));
  }

  write(name: string, offsetBytes: number, piece: Uint8Array): void {
    const state = this.#states.get(name);
    if (state) {
      state.set(piece, offsetBytes);
      return;
    }
    let bytes = this.#checkpoints.get(name);
    if (!bytes) throw new Error(`the host keeps no ${name}`);
    // Made at the first use, for the longest micro-batch; then used again.
    if (bytes.byteLength === 0) this.#checkpoints.set(name, (bytes = new Uint8Array(this.#checkpointBytes)));
    bytes.set(piece, offsetBytes);
  }

  async close(): Promise<void> {
    await this.layers.close();
    await this.#embedding?.close();
  }
}
