/**
 * Frozen tensors of streamed layers on the host, as they lie in a slot of the ring: in memory, or in a file that is gone
 * when the run ends. The loader fills it instead of the GPU.
 */
import { open, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { makeFolder } from "../formats/make_folder.js";
import { tensorBytes, type Tensor } from "../program/tensor.js";
import type { TensorSink } from "./entries.js";
import type { ModelTensors } from "./tensors.js";

interface Slots {
  write(layer: number, at: number, bytes: Uint8Array): Promise<void> | void;
  /** What was written; memory that a later read may overwrite. */
  read(layer: number): Promise<Uint8Array> | Uint8Array;
  close(): Promise<void>;
}

class SlotsInMemory implements Slots {
  readonly #layers = new Map<number, Uint8Array>();
  readonly #slotBytes: number;

  constructor(slotBytes: number) {
    this.#slotBytes = slotBytes;
  }

  write(layer: number, at: number, bytes: Uint8Array): void {
    let slot = this.#layers.get(layer);
    if (!slot) this.#layers.set(layer, (slot = new Uint8Array(this.#slotBytes)));
    slot.set(bytes, at);
  }

  read(layer: number): Uint8Array {
    const slot = this.#layers.get(layer);
    if (!slot) throw new Error(`layer ${layer} was not loaded`);
    return slot;
  }

  async close(): Promise<void> {
    this.#layers.clear();
  }
}

class SlotsInFile implements Slots {
  readonly #path: string;
  readonly #file: FileHandle;
  readonly #firstLayer: number;
  readonly #slotBytes: number;
  readonly #buffer: Uint8Array;

  private constructor(path: string, file: FileHandle, firstLayer: number, slotBytes: number) {
    this.#path = path;
    this.#file = file;
    this.#firstLayer = firstLayer;
    this.#slotBytes = slotBytes;
    this.#buffer = new Uint8Array(slotBytes);
  }

  static async create(folder: string, firstLayer: number, slotBytes: number): Promise<SlotsInFile> {
    makeFolder(folder);
    const path = join(folder, `layers-${process.pid}-${Date.now()}`);
    const file = await open(path, "wx+", 0o600);
    // Where the system allows it, the name goes at once and the bytes with the last handle, whatever ends the process.
    if (process.platform !== "win32") await rm(path);
    return new SlotsInFile(path, file, firstLayer, slotBytes);
  }

  #start = (layer: number): number => (layer - this.#firstLayer) * this.#slotBytes;

  async write(layer: number, at: number, bytes: Uint8Array): Promise<void> {
    try {
      // A disk that is nearly full takes a part, and only the next call fails.
      for (let done = 0; done < bytes.byteLength;) {
        const rest = bytes.byteLength - done;
        done += (await this.#file.write(bytes, done, rest, this.#start(layer) + at + done)).bytesWritten;
      }
    } catch (cause) {
      throw new QdoraError(
        "layer_cache",
        `cannot write streamed layers to disk: ${String(cause)}`,
        "free some space, or set QDORA_CACHE to a folder on another disk",
        { cause },
      );
    }
  }

  async read(layer: number): Promise<Uint8Array> {
    let done = 0;
    while (done < this.#slotBytes) {
      const rest = this.#slotBytes - done;
      const { bytesRead } = await this.#file.read(this.#buffer, done, rest, this.#start(layer) + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    // The end of the last layer may be padding that nothing wrote.
    this.#buffer.fill(0, done);
    return this.#buffer;
  }

  async close(): Promise<void> {
    await this.#file.close();
    await rm(this.#path, { force: true });
  }
}

export class LayerCache {
  readonly #slots: Slots;
  readonly #layerOf = new Map<string, number>();

  private constructor(model: ModelTensors, slots: Slots) {
    this.#slots = slots;
    for (const w of model.layers) {
      const { linears, inputNorm, postNorm, qNorm, kNorm } = w;
      const tensors = Object.values(linears).flatMap(({ weight, scaleBias, rowSquares }) => [
        ...(weight.format === "nf4" ? [weight.codes, weight.absmax] : [weight.values]),
        scaleBias?.kind === "weight" ? scaleBias : undefined,
        rowSquares,
      ]);
      for (const t of [inputNorm, postNorm, qNorm, kNorm, ...tensors])
        if (t?.arena) this.#layerOf.set(t.name, w.layer);
    }
  }

  /** @param folder where a file may lie; undefined: in memory */
  static async create(model: ModelTensors, folder: string | undefined): Promise<LayerCache> {
    const { firstLayer, frozenBytes } = model.ring ?? { firstLayer: 0, frozenBytes: 0 };
    const slots =
      folder === undefined
        ? new SlotsInMemory(frozenBytes)
        : await SlotsInFile.create(folder, firstLayer, frozenBytes);
    return new LayerCache(model, slots);
  }

  /** A sink for the loader: tensors of streamed layers stay here, all others go on. */
  before(sink: TensorSink): TensorSink {
    return {
      write: (t: Tensor, bytes: Uint8Array, offsetBytes = 0) => {
        const layer = this.#layerOf.get(t.name);
        if (layer === undefined || !t.arena) return sink.write(t, bytes, offsetBytes);
        if (offsetBytes + bytes.byteLength > tensorBytes(t))
          throw new Error(`${t.name}: ${bytes.byteLength} bytes do not fit`);
        return this.#slots.write(layer, t.arena.offsetBytes + offsetBytes, bytes);
      },
    };
  }

  /** A layer's frozen tensors as they lie in its slot. */
  read(layer: number): Promise<Uint8Array> | Uint8Array {
    return this.#slots.read(layer);
  }

  close(): Promise<void> {
    return this.#slots.close();
  }
}
