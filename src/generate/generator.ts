/** A model on the GPU that continues token ids, with a cache of keys and values. */
import { openGpu, type Gpu } from "../gpu/device.js";
import { readArchitecture } from "../model/config.js";
import { generationProgram, generationTensors, type GenerationTensors } from "../model/generation.js";
import { inferenceModel, writeAdapter } from "../model/inference.js";
import { loadModel } from "../model/load.js";
import { loadAdapter } from "../model/loaded_adapter.js";
import type { ModelTensors } from "../model/tensors.js";
import { Executor } from "../program/executor.js";
import { planMemory } from "../program/planner.js";
import { chooseFrom } from "../program/tuner.js";

export interface GeneratorOptions {
  readonly model: string;
  readonly adapter?: string | undefined;
  readonly quant: "nf4" | "none";
  readonly doubleQuant: boolean;
  /** Longest prompt and answer together, in tokens. */
  readonly context: number;
  readonly device?: string | undefined;
}

/** Prompt tokens handled together. */
const PIECE = 128;
const READBACK_BYTES = 1 << 20;

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

export class Generator {
  readonly gpu: Gpu;
  readonly #model: ModelTensors;
  readonly #tensors: GenerationTensors;
  readonly #executor: Executor;
  #row = 0;
  #fresh = true;

  private constructor(gpu: Gpu, model: ModelTensors, tensors: GenerationTensors, executor: Executor) {
    this.gpu = gpu;
    this.#model = model;
    this.#tensors = tensors;
    this.#executor = executor;
  }

  static async open(options: GeneratorOptions): Promise<Generator> {
    const adapter =
      options.adapter === undefined
        ? undefined
        : await loadAdapter(options.adapter, await readArchitecture(options.model));
    const model = await inferenceModel({ ...options, positions: options.context }, adapter);
    const piece = Math.min(PIECE, options.context);
    const tensors = generationTensors(model, options.context, piece);
    const programs = [
      generationProgram("prefill", model, tensors, { N: piece, capacity: piece, row: 0 }),
      generationProgram("decode", model, tensors, { N: 1, capacity: 1, row: 0 }),
    ];
    const gpu = await openGpu({ adapter: options.device });
    try {
      const executor = await Executor.allocate(gpu, planMemory(programs, READBACK_BYTES));
      await executor.load(programs, chooseFrom(new Map()));
      await loadModel(options.model, model, executor);
      if (adapter) await writeAdapter(adapter, executor);
      const spans = new Uint32Array(options.context * 2);
      for (let i = 1; i < spans.length; i += 2) spans[i] = options.context;
      await executor.write(tensors.spans, bytesOf(spans));
      return new Generator(gpu, model, tensors, executor);
    } catch (error) {
      await gpu.destroy();
      throw error;
    }
  }

  /** Appends tokens and returns the logits [V] after the last of them. */
  async feed(ids: readonly number[]): Promise<Float32Array> {
    for (let at = 0; at < ids.length;) {
      const single = ids.length - at === 1;
      const count = single ? 1 : Math.min(PIECE, this.#tensors.context, ids.length - at);
      await this.#run(single ? "decode" : "prefill", ids.slice(at, at + count));
      at += count;
    }
    return new Float32Array(await this.#executor.read(this.#tensors.logits));
  }

  async #run(name: "prefill" | "decode", ids: readonly number[]): Promise<void> {
    const { tokens, positions, context } = this.#tensors;
    const N = ids.length;
    if (this.#row + N > context) throw new Error(`the context of ${context} tokens is full`);
    await this.#executor.write(tokens, bytesOf(Uint32Array.from(ids)));
    await this.#executor.write(positions, bytesOf(Uint32Array.from(ids, (_, i) => this.#row + i)));
    const capacity = name === "decode" ? 1 : Math.min(PIECE, context);
    await this.#executor.run(
      generationProgram(name, this.#model, this.#tensors, { N, capacity, row: this.#row }),
      { afterUpdate: this.#fresh },
    );
    this.#fresh = false;
    this.#row += N;
  }

  /** Forgets everything that was fed. */
  reset(): void {
    this.#row = 0;
  }

  async close(): Promise<void> {
    await this.#executor.release();
    await this.gpu.destroy();
  }
}
