/** Encodes chunks of rows, in worker threads where the data is large enough to be worth their start. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { QdoraError } from "../formats/error.js";
import type { ColumnMap } from "./columns.js";
import type { EncodeOptions } from "./encode.js";
import { encodeChunk, type EncodedChunk, type RawChunk } from "./encode_chunk.js";
import type { WorkerError, WorkerReply, WorkerSettings } from "./encode_worker.js";
import { ChatRenderer } from "./template.js";
import type { Tokenizer } from "./tokenizer.js";

export interface EncodeSettings extends EncodeOptions {
  /** Not needed for rows of ready-made ids. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Why there is no tokenizer; thrown when a row needs one. */
  readonly tokenizerError?: unknown;
  readonly columns: ColumnMap;
  /** Stops the encoding. */
  readonly signal?: AbortSignal | undefined;
}

export interface EncodePool {
  /** Chunks that should be under way at a time. */
  readonly depth: number;
  /** @throws QdoraError for what is wrong with all rows */
  encode(chunk: RawChunk): Promise<EncodedChunk>;
  close(): Promise<void>;
}

/** Data below this size is encoded in this thread. */
const WORTH_WORKERS_BYTES = 4 * 1024 * 1024;
/** Each holds a tokenizer of its own. */
const MAX_WORKERS = 4;

/** @param dataBytes size of the data's files */
export function openPool(dataBytes: number, settings: EncodeSettings): EncodePool {
  const isWorth = dataBytes >= WORTH_WORKERS_BYTES && availableParallelism() > 1;
  return isWorth
    ? new WorkerPool(Math.min(MAX_WORKERS, availableParallelism()), settings)
    : hereOnly(settings);
}

function hereOnly(settings: EncodeSettings): EncodePool {
  const { tokenizer, tokenizerError } = settings;
  const renderer = tokenizer && new ChatRenderer(tokenizer);
  return {
    depth: 1,
    encode: (chunk) => encodeChunk(chunk, { tokenizer, tokenizerError, renderer }, settings),
    close: async () => renderer?.close(),
  };
}

interface Waiting {
  readonly resolve: (chunk: EncodedChunk) => void;
  readonly reject: (error: unknown) => void;
}

class WorkerPool implements EncodePool {
  readonly depth: number;
  readonly #workers: readonly Worker[];
  readonly #settings: EncodeSettings;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;

  constructor(count: number, settings: EncodeSettings) {
    this.depth = 2 * count;
    this.#settings = settings;
    const { maxSeqLength, trainOnPrompt, vocabSize, columns, tokenizer } = settings;
    const workerData: WorkerSettings = {
      tokenizerFolder: tokenizer?.folder,
      tokenizerTexts: tokenizer?.texts,
      hasReason: settings.tokenizerError instanceof Error,
      options: { maxSeqLength, trainOnPrompt, vocabSize, columns },
    };
    this.#workers = Array.from({ length: count }, () => {
      const worker = new Worker(new URL("./encode_worker.js", import.meta.url), { workerData });
      worker.on("message", (reply: WorkerReply) => this.#answer(reply));
      worker.on("error", (error) => this.#fail(error));
      return worker;
    });
  }

  encode(chunk: RawChunk): Promise<EncodedChunk> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#workers[id % this.#workers.length]?.postMessage({ id, chunk });
    });
  }

  async close(): Promise<void> {
    this.#fail(new Error("the encoder was closed"));
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #answer(reply: WorkerReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if ("chunk" in reply) waiting?.resolve(reply.chunk);
    else waiting?.reject(this.#errorOf(reply.error));
  }

  #errorOf(error: WorkerError): unknown {
    const { tokenizerError } = this.#settings;
    if (error.needsTokenizer && tokenizerError instanceof Error) return tokenizerError;
    if (error.isInternal) return new Error(error.fact);
    return new QdoraError(error.area, error.fact, error.hint, { exitCode: error.exitCode });
  }

  #fail(error: unknown): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
