/** A worker thread that encodes chunks of rows: it loads its own tokenizer and answers each chunk with compact records. */
import { parentPort, workerData } from "node:worker_threads";
import { QdoraError } from "../formats/error.js";
import { encodeChunk, type EncodedChunk, type RawChunk } from "./encode_chunk.js";
import type { ColumnMap } from "./columns.js";
import type { EncodeOptions, Encoder } from "./encode.js";
import { ChatRenderer } from "./template.js";
import { loadTokenizer } from "./tokenizer.js";
import type { TokenizerTexts } from "./tokenizer_files.js";

export interface WorkerSettings {
  /** Folder of the tokenizer; undefined for data of ready-made ids. */
  readonly tokenizerFolder: string | undefined;
  /** Its files, where that folder is not on this disk. */
  readonly tokenizerTexts: TokenizerTexts | undefined;
  /** The main thread knows why there is no tokenizer. */
  readonly hasReason: boolean;
  readonly options: EncodeOptions & { readonly columns: ColumnMap };
}

export interface WorkerRequest {
  readonly id: number;
  readonly chunk: RawChunk;
}

/** An error as it goes to the other thread. */
export interface WorkerError {
  readonly area: string;
  readonly fact: string;
  readonly hint: string | undefined;
  readonly exitCode: 1 | 2;
  /** Not an error of the data. */
  readonly isInternal: boolean;
  /** A row needs the tokenizer that there is none of. */
  readonly needsTokenizer: boolean;
}

export type WorkerReply = { readonly id: number } & (
  | { readonly chunk: EncodedChunk }
  | { readonly error: WorkerError }
);

/** Stands for the reason why there is no tokenizer, which only the main thread knows. */
const NO_TOKENIZER = new QdoraError("tokenizer", "there is none");

function plainError(error: unknown): WorkerError {
  const needsTokenizer = error === NO_TOKENIZER;
  if (!(error instanceof QdoraError)) {
    const fact = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { area: "", fact, hint: undefined, exitCode: 1, isInternal: true, needsTokenizer };
  }
  const { area, message, hint, exitCode } = error;
  return { area, fact: message.slice(area.length + 2), hint, exitCode, isInternal: false, needsTokenizer };
}

const port = parentPort;
if (port) {
  const { tokenizerFolder, tokenizerTexts, hasReason, options } = workerData as WorkerSettings;
  const encoder = (async (): Promise<Encoder> => {
    if (tokenizerFolder === undefined)
      return {
        tokenizer: undefined,
        tokenizerError: hasReason ? NO_TOKENIZER : undefined,
        renderer: undefined,
      };
    const tokenizer = await loadTokenizer(tokenizerFolder, tokenizerTexts);
    return { tokenizer, renderer: new ChatRenderer(tokenizer) };
  })();
  encoder.catch(() => undefined);
  const encode = async (id: number, chunk: RawChunk): Promise<void> => {
    try {
      const encoded = await encodeChunk(chunk, await encoder, options);
      const { records, recordBytes, lengths, scored, flags } = encoded;
      port.postMessage(
        { id, chunk: encoded } satisfies WorkerReply,
        [records, recordBytes, lengths, scored, flags].map((array) => array.buffer as ArrayBuffer),
      );
    } catch (error) {
      port.postMessage({ id, error: plainError(error) } satisfies WorkerReply);
    }
  };
  port.on("message", ({ id, chunk }: WorkerRequest) => void encode(id, chunk));
}
