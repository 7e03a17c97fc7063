/** A model on the GPU that scores rows: the summed loss over each row's labels. Many rows pass together, packed into one stream. */
import type { EncodedRow } from "../data/row.js";
import { packRows } from "../data/pack.js";
import { QdoraError } from "../formats/error.js";
import { openGpu, type Gpu } from "../gpu/device.js";
import { readArchitecture } from "../model/config.js";
import { inferenceModel, writeAdapter, type InferenceOptions } from "../model/inference.js";
import { loadModel } from "../model/load.js";
import { loadAdapter } from "../model/loaded_adapter.js";
import { evaluationProgram, streamTensors, type StreamTensors } from "../model/programs.js";
import { PLAIN_STORAGE } from "../model/stream.js";
import type { ModelTensors } from "../model/tensors.js";
import { Executor } from "../program/executor.js";
import type { Program } from "../program/kernel.js";
import { planMemory } from "../program/planner.js";
import { chooseFrom, tune, type TuneMode } from "../program/tuner.js";
import { scoringStream, streamTokens, type ScoringStream } from "./scoring_stream.js";

export interface ScorerOptions extends Omit<InferenceOptions, "positions"> {
  readonly adapter: string | undefined;
  readonly device: string | undefined;
  readonly tune: TuneMode;
  /** Tokens that pass together, unless a row is longer. */
  readonly batchTokens: number;
}

type Row = Pick<EncodedRow, "inputIds" | "labels">;

const READBACK_BYTES = 1 << 20;
/** Tokens that go through the feed-forward part together. */
const CHUNK = 512;
/** Programs of so many token counts are kept. */
const PROGRAMS = 256;

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** The tokens of the longest stream: as asked for, more for a longer row, fewer where there is not so much. */
function capacityFor(rows: readonly Row[], batchTokens: number): number {
  let [total, longest] = [0, 1];
  for (const row of rows) {
    total += streamTokens(row);
    longest = Math.max(longest, streamTokens(row));
  }
  return Math.max(longest, Math.min(batchTokens, total));
}

export class Scorer {
  readonly gpu: Gpu;
  readonly capacity: number;
  readonly #folder: string;
  readonly #model: ModelTensors;
  readonly #stream: StreamTensors;
  readonly #executor: Executor;
  readonly #programs = new Map<number, Program>();
  #fresh = true;

  private constructor(
    gpu: Gpu,
    folder: string,
    capacity: number,
    model: ModelTensors,
    stream: StreamTensors,
    executor: Executor,
  ) {
    this.gpu = gpu;
    this.#folder = folder;
    this.capacity = capacity;
    this.#model = model;
    this.#stream = stream;
    this.#executor = executor;
  }

  /**
   * @param rows all that will be scored: they decide about the size of buffers
   * @param onBytes called with the bytes of the model that are read
   */
  static async open(
    options: ScorerOptions,
    rows: readonly Row[],
    say: (line: string) => void = () => undefined,
    onBytes: (bytes: number) => void = () => undefined,
  ): Promise<Scorer> {
    const adapter =
      options.adapter === undefined
        ? undefined
        : await loadAdapter(options.adapter, await readArchitecture(options.model));
    const positions = rows.reduce((most, row) => Math.max(most, streamTokens(row)), 1);
    const model = await inferenceModel({ ...options, positions }, adapter);
    const capacity = capacityFor(rows, options.batchTokens);
    const stream = streamTensors(capacity);
    const program = programOf(model, stream, capacity, capacity);
    const plan = planMemory([program], READBACK_BYTES);
    const gpu = await openGpu({ adapter: options.device });
    try {
      const { largestBinding } = plan;
      if (largestBinding.bytes > gpu.traits.maxBindingBytes)
        throw new QdoraError(
          "gpu",
          `${largestBinding.name} needs a binding of ${largestBinding.bytes} bytes (limit of ${gpu.traits.name}: ${gpu.traits.maxBindingBytes})`,
          "lower --batch-tokens; a weight is smaller with --quant nf4",
        );
      const executor = await Executor.allocate(gpu, plan);
      // The tuner measures attention over one long row.
      const spans = Uint32Array.from({ length: 2 * capacity }, (_, i) => (i % 2) * capacity);
      await executor.write(stream.spans, bytesOf(spans));
      await executor.load([program], chooseFrom(await tune(executor, [program], options.tune, say)));
      await loadModel(options.model, model, executor, onBytes);
      if (adapter) await writeAdapter(adapter, executor);
      await executor.idle();
      return new Scorer(gpu, options.model, capacity, model, stream, executor);
    } catch (error) {
      await gpu.destroy();
      throw error;
    }
  }

  /**
   * The summed negative log-likelihood of each row's labels.
   * @param onTokens called with the tokens that are done
   * @throws QdoraError where a loss is not finite
   */
  async score(
    rows: readonly Row[],
    onTokens: (tokens: number) => void = () => undefined,
  ): Promise<readonly number[]> {
    const losses = rows.map(() => 0);
    let done = 0;
    for (const bin of packRows(rows.map(streamTokens), this.capacity)) {
      const stream = scoringStream(bin.map((index) => rows[index] as Row));
      if (stream.tokens === 0) continue;
      const tokenLoss = await this.#run(stream);
      for (const [i, index] of bin.entries()) losses[index] = summed(stream, i, tokenLoss, this.#folder);
      onTokens((done += stream.tokens));
    }
    return losses;
  }

  async #run(s: ScoringStream): Promise<Float32Array> {
    const { tokens, positions, spans, labels, tokenLoss } = this.#stream;
    await this.#executor.write(tokens, bytesOf(s.inputIds));
    await this.#executor.write(positions, bytesOf(s.positions));
    await this.#executor.write(spans, bytesOf(s.spans));
    await this.#executor.write(labels, bytesOf(s.labels));
    await this.#executor.run(this.#program(s.tokens), { afterUpdate: this.#fresh });
    this.#fresh = false;
    return new Float32Array(await this.#executor.read(tokenLoss, 4 * s.tokens));
  }

  #program(N: number): Program {
    let program = this.#programs.get(N);
    if (!program) {
      program = programOf(this.#model, this.#stream, N, this.capacity);
      if (this.#programs.size >= PROGRAMS) this.#programs.clear();
      this.#programs.set(N, program);
    }
    return program;
  }

  async close(): Promise<void> {
    await this.#executor.release();
    await this.gpu.destroy();
  }
}

const programOf = (model: ModelTensors, stream: StreamTensors, N: number, capacity: number): Program =>
  evaluationProgram(model, stream, {
    N,
    capacity,
    checkpointing: "full",
    storage: { ...PLAIN_STORAGE, chunk: CHUNK },
  });

function summed(stream: ScoringStream, row: number, tokenLoss: Float32Array, folder: string): number {
  let sum = 0;
  const [from = 0, to = 0] = stream.rows[row] ?? [];
  for (let t = from; t < to; t++) if ((stream.labels[t] ?? -1) >= 0) sum += tokenLoss[t] ?? NaN;
  if (Number.isFinite(sum)) return sum;
  throw new QdoraError(
    folder,
    "the model's loss is not a finite number",
    "is the folder complete, and the adapter the one of this model? `qdora inspect` checks both",
  );
}
