/** A run on the GPU: allocation, kernel choice, weights, start adapter; then micro-batches and optimizer steps. */
import { initialValues, type FactorValues } from "../adapter/initial.js";
import { adapterFromPeft } from "../adapter/peft.js";
import type { MicroBatch } from "../data/batch.js";
import { QdoraError } from "../formats/error.js";
import { readPeftAdapter } from "../formats/peft.js";
import { collectGarbage } from "../gpu/collect.js";
import type { Gpu } from "../gpu/device.js";
import { ModelFingerprint } from "../model/fingerprint.js";
import type { RowSquares } from "../model/load.js";
import { folderSource, type ModelSource } from "../model/source.js";
import { evaluationProgram, microBatchProgram } from "../model/programs.js";
import { Executor } from "../program/executor.js";
import type { Program } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { RandomSource } from "../program/random.js";
import { cacheFolder, chooseFrom, tune, type VariantTable } from "../program/tuner.js";
import { RunHost } from "./run_host.js";
import { optimizerTables, stepScalars } from "./optimizer.js";
import type { SessionRun } from "./prepare.js";
import { chosenVariants, stateMemory, type StateMemory } from "./trained_state.js";

export interface StepNumbers {
  readonly loss: number;
  readonly gradNorm: number;
}

interface SessionFacts {
  readonly uploadRate: number;
  readonly modelFingerprint: string;
  readonly baseNorms: string | undefined;
}

export interface SessionOptions {
  /** Where the weights come from; default: the model folder. */
  readonly source?: ModelSource;
  /** The kernel variants of a run that is resumed; measured where they are not given. */
  readonly variants?: VariantTable | undefined;
  /** Ends the opening with its reason. */
  readonly signal?: AbortSignal | undefined;
}

interface Filling {
  readonly uploadRate: number;
  readonly source: ModelSource;
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal | undefined;
}

/** Random streams of one seed. */
const ADAPTER_STREAM = 1;

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

const scoredLabels = (batches: readonly MicroBatch[]): number =>
  batches.reduce((sum, b) => sum + b.scored, 0);

export class TrainingSession {
  readonly run: SessionRun;
  readonly executor: Executor;
  /** Adapter, gradients and moments, wherever they lie. */
  readonly memory: StateMemory;
  /** Which kernel variants run, by class of call. */
  readonly variants: VariantTable;
  /** Of the weights, as they were read. */
  readonly modelFingerprint: string;
  /** Of the weights of its norms; undefined where they come from no folder. */
  readonly baseNorms: string | undefined;
  readonly #host: RunHost;
  readonly #programs = new Map<string, Program>();
  readonly #optimizer: Program;
  /** Bytes per second from host to GPU, measured at the start. */
  readonly uploadRate: number;
  /** A, B or m changed since g was computed. */
  #stale = true;

  private constructor(run: SessionRun, executor: Executor, host: RunHost, given: SessionFacts) {
    this.uploadRate = given.uploadRate;
    this.run = run;
    this.executor = executor;
    this.memory = stateMemory(executor, host);
    this.variants = chosenVariants(executor, run.programs);
    this.modelFingerprint = given.modelFingerprint;
    this.baseNorms = given.baseNorms;
    this.#host = host;
    this.#optimizer = run.programs.find((p) => p.name === "optimizer") as Program;
  }

  /** Allocates the plan, picks kernels, loads the model and the start adapter. */
  static async open(
    run: SessionRun,
    gpu: Gpu,
    say: (line: string) => void,
    onBytes: (bytes: number) => void,
    { source = folderSource(run.settings.model), variants, signal }: SessionOptions = {},
  ): Promise<TrainingSession> {
    const { largestBinding } = run.plan;
    if (largestBinding.bytes > gpu.traits.maxBindingBytes) {
      throw new QdoraError(
        "gpu",
        `${largestBinding.name} needs a binding of ${largestBinding.bytes} bytes (limit of ${gpu.traits.name}: ${gpu.traits.maxBindingBytes})`,
        "lower max_seq_length or batch_size; a weight is smaller with quant nf4",
      );
    }
    // What is allocated from here to the end of the run is what was planned.
    gpu.ledger.budget = gpu.ledger.bytes + run.plan.totalBytes;
    const executor = await Executor.allocate(gpu, run.plan);
    const uploadRate = await executor.measureUpload();
    // Attention over one long row is what is measured; over empty spans all variants would look alike.
    const { spans } = run.stream;
    await executor.write(
      spans,
      bytesOf(Uint32Array.from({ length: 2 * run.capacity }, (_, i) => (i % 2) * run.capacity)),
    );
    const table = variants ?? (await tune(executor, run.programs, run.settings.tune, say, signal));
    signal?.throwIfAborted();
    await executor.load(run.programs, chooseFrom(table));
    const host = await RunHost.open(run, source, cacheFolder());
    executor.host = host;
    try {
      return await TrainingSession.#fill(run, executor, host, { uploadRate, source, onBytes, signal });
    } catch (error) {
      await host.close();
      throw error;
    }
  }

  /** Loads the model and the start adapter. */
  static async #fill(
    run: SessionRun,
    executor: Executor,
    host: RunHost,
    { uploadRate, source, onBytes, signal }: Filling,
  ): Promise<TrainingSession> {
    const fingerprint = new ModelFingerprint();
    const onPiece = (bytes: number): void => {
      signal?.throwIfAborted();
      onBytes(bytes);
    };
    const rowSquares = await source.load(run.model, host.before(executor), onPiece, fingerprint);
    const facts = {
      uploadRate,
      modelFingerprint: fingerprint.digest(),
      baseNorms: fingerprint.norms(),
    };
    const session = new TrainingSession(run, executor, host, facts);
    await session.#startAdapter(rowSquares);
    for (const [t, values] of optimizerTables(run.layout)) await executor.write(t, bytesOf(values));
    await executor.idle();
    // Pieces of weights, shader modules, the tokenizer: nothing of them is needed again.
    await collectGarbage();
    return session;
  }

  async #startAdapter(rowSquares: RowSquares): Promise<void> {
    const { init_adapter: folder, seed } = this.run.settings;
    const given =
      folder === undefined
        ? undefined
        : adapterFromPeft(this.run.layout, await readPeftAdapter(folder), folder);
    const random = new RandomSource(seed, ADAPTER_STREAM);
    for (const module of this.run.layout.modules.values()) {
      const values: FactorValues =
        given?.get(module.path) ?? initialValues(module, rowSquares.get(module.path), random);
      const { a, b, magnitude } = module.parameters;
      await this.memory.write(a, bytesOf(values.a));
      await this.memory.write(b, bytesOf(values.b));
      if (magnitude && values.magnitude) await this.memory.write(magnitude, bytesOf(values.magnitude));
    }
  }

  /**
   * One optimizer step over micro-batches. Loss and gradient are means over all their scored labels.
   * @throws the signal's reason before the update; adapter and moments are as they were then
   */
  async step(
    batches: readonly MicroBatch[],
    scalars: Omit<Parameters<typeof stepScalars>[0], "scored">,
    signal?: AbortSignal,
  ): Promise<StepNumbers> {
    await this.accumulate(batches, scalars, signal);
    return this.update(batches);
  }

  /** First half of a step: the gradients of all its micro-batches, added up in the arenas. */
  async accumulate(
    batches: readonly MicroBatch[],
    scalars: Omit<Parameters<typeof stepScalars>[0], "scored">,
    signal?: AbortSignal,
  ): Promise<void> {
    const { stream } = this.run;
    await this.executor.write(
      stream.step,
      bytesOf(stepScalars({ ...scalars, scored: scoredLabels(batches) })),
    );
    await this.executor.write(stream.totals, new Uint8Array(64));
    for (const batch of batches) {
      await this.#writeBatch(batch);
      await this.executor.run(this.#program("micro-batch", batch.tokens), {
        afterUpdate: this.#stale,
        signal,
      });
      this.#stale = false;
    }
  }

  /** Second half: clips, updates the adapter and clears the gradients. */
  async update(batches: readonly MicroBatch[]): Promise<StepNumbers> {
    await this.executor.run(this.#optimizer);
    this.#stale = true;
    const totals = new Float32Array(await this.executor.read(this.run.stream.totals));
    const scored = scoredLabels(batches);
    return { loss: scored > 0 ? (totals[0] ?? NaN) / scored : 0, gradNorm: totals[1] ?? NaN };
  }

  /** Someone else has put values into A, B and m. */
  adapterWasWritten(): void {
    this.#stale = true;
  }

  /** Mean loss over the scored labels of some micro-batches; nothing is trained. */
  async evaluate(batches: readonly MicroBatch[], signal?: AbortSignal): Promise<number> {
    const { stream } = this.run;
    let [loss, scored] = [0, 0];
    for (const batch of batches) {
      await this.executor.write(stream.totals, new Uint8Array(64));
      await this.#writeBatch(batch);
      await this.executor.run(this.#program("evaluation", batch.tokens), {
        afterUpdate: this.#stale,
        signal,
      });
      this.#stale = false;
      loss += new Float32Array(await this.executor.read(stream.totals))[0] ?? NaN;
      scored += batch.scored;
    }
    return loss / Math.max(1, scored);
  }

  async #writeBatch(batch: MicroBatch): Promise<void> {
    const { stream, capacity } = this.run;
    if (batch.tokens > capacity)
      throw new Error(`a micro-batch of ${batch.tokens} tokens, planned for ${capacity}`);
    const spans = new Uint32Array(batch.tokens * 2);
    for (let t = 0; t < batch.tokens; t++) {
      spans[2 * t] = batch.sequenceStart[t] ?? 0;
      spans[2 * t + 1] = batch.sequenceEnd[t] ?? 0;
    }
    await this.executor.write(stream.tokens, bytesOf(batch.inputIds));
    this.#host.setTokens(batch.inputIds);
    await this.executor.write(stream.positions, bytesOf(batch.positions));
    await this.executor.write(stream.spans, bytesOf(spans));
    await this.executor.write(stream.labels, bytesOf(batch.labels));
  }

  /** The program for a token count; the same count again gives the same object, so that uniforms stay. */
  #program(kind: "micro-batch" | "evaluation", N: number): Program {
    const key = `${kind} ${N}`;
    let program = this.#programs.get(key);
    if (!program) {
      const { model, stream, capacity, settings, storage } = this.run;
      const build = kind === "micro-batch" ? microBatchProgram : evaluationProgram;
      program = build(model, stream, {
        N,
        capacity,
        checkpointing: settings.gradient_checkpointing,
        storage,
      });
      if (this.#programs.size >= 256) this.#programs.clear();
      this.#programs.set(key, program);
    }
    return program;
  }

  /** The present adapter, by module path. */
  async adapter(): Promise<ReadonlyMap<string, FactorValues>> {
    const out = new Map<string, FactorValues>();
    const read = async (t: Tensor): Promise<Float32Array> => new Float32Array(await this.memory.read(t));
    for (const module of this.run.layout.modules.values()) {
      const { a, b, magnitude } = module.parameters;
      const factors = { a: await read(a), b: await read(b) };
      out.set(module.path, magnitude ? { ...factors, magnitude: await read(magnitude) } : factors);
    }
    return out;
  }

  async close(): Promise<void> {
    await this.executor.release();
    this.executor.gpu.ledger.budget = undefined;
    await this.#host.close();
  }

  /** Gives back what the session holds on the host, where its device is gone or about to be. */
  abandon(): Promise<void> {
    return this.#host.close();
  }
}
