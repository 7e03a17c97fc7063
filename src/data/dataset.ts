/** A whole data set in memory as tokens: training rows, held-out rows, and the units that the loop shuffles. */
import { QdoraError } from "../formats/error.js";
import { RandomSource } from "../program/random.js";
import { encodeRow, type EncodeOptions, type Encoder } from "./encode.js";
import { packRows } from "./pack.js";
import type { DataRow, EncodedRow } from "./row.js";
import { findDataFiles, readRows } from "./rows.js";
import { ChatRenderer } from "./template.js";
import type { Tokenizer } from "./tokenizer.js";

export interface DatasetOptions extends EncodeOptions {
  /** A file, or a folder with train.jsonl and perhaps valid.jsonl. */
  readonly path: string;
  /** Not needed for rows of ready-made ids. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Why there is no tokenizer; thrown when a row needs one. */
  readonly tokenizerError?: unknown;
  /** Lay short rows together in units of up to maxSeqLength tokens. */
  readonly packing?: boolean;
  /** Rows to hold out: a fraction below 1, else a number of rows. */
  readonly valSize?: number | undefined;
  /** Picks the held-out rows. */
  readonly seed: number;
}

export interface Dataset {
  readonly train: readonly EncodedRow[];
  readonly validation: readonly EncodedRow[];
  /** What the loop shuffles and counts as its batch: for each unit the indices of its rows in `train`. */
  readonly units: readonly (readonly number[])[];
  /** Over training and held-out rows. */
  readonly counts: DataCounts;
}

export interface DataCounts {
  readonly rows: number;
  /** Rows cut at maxSeqLength. */
  readonly truncated: number;
  /** Rows without a scored label: they keep their place and add nothing. */
  readonly unscored: number;
  readonly tokens: number;
  readonly scoredTokens: number;
}

const HELD_OUT_STREAM = 3;
/** Rows encoded at a time, so that the template renderer always has something to do. */
const ROWS_AT_ONCE = 64;

/** @throws QdoraError for broken rows, no rows, or not one scored label */
export async function loadDataset(options: DatasetOptions): Promise<Dataset> {
  const files = await findDataFiles(options.path);
  const { valSize, tokenizer } = options;
  if (valSize !== undefined && files.validation !== undefined) {
    throw new QdoraError(
      "val_size",
      `${options.path} holds held-out rows already (${files.validation})`,
      "leave val_size out, or name the training file in data",
      { exitCode: 2 },
    );
  }
  const renderer = tokenizer && new ChatRenderer(tokenizer);
  try {
    const encoder: Encoder = { tokenizer, tokenizerError: options.tokenizerError, renderer };
    const rows = await encodeFile(files.train, encoder, options);
    const given =
      files.validation === undefined ? undefined : await encodeFile(files.validation, encoder, options);
    const [train, validation] = given ? [rows, given] : holdOut(rows, options);
    checkScored(train, "train", files.train);
    if (validation.length > 0) checkScored(validation, "held-out", files.validation ?? files.train);
    const units = options.packing
      ? packRows(
          train.map((row) => row.inputIds.length),
          options.maxSeqLength,
        )
      : train.map((_, row) => [row]);
    return { train, validation, units, counts: countRows([...train, ...validation]) };
  } finally {
    renderer?.close();
  }
}

async function encodeFile(path: string, encoder: Encoder, options: DatasetOptions): Promise<EncodedRow[]> {
  const encoded: EncodedRow[] = [];
  let waiting: DataRow[] = [];
  const encodeWaiting = async (): Promise<void> => {
    const rows = await Promise.all(waiting.map((row) => encodeRow(row, encoder, options)));
    for (const row of rows) encoded.push(row);
    waiting = [];
  };
  for await (const row of readRows(path)) {
    waiting.push(row);
    if (waiting.length === ROWS_AT_ONCE) await encodeWaiting();
  }
  await encodeWaiting();
  if (encoded.length === 0)
    throw new QdoraError("data", `${path} has no rows`, "add rows, or name another file");
  return encoded;
}

/** Takes rows out by a seeded draw; both parts keep the file's order. */
function holdOut(
  rows: readonly EncodedRow[],
  options: DatasetOptions,
): readonly [readonly EncodedRow[], readonly EncodedRow[]] {
  const { valSize } = options;
  if (valSize === undefined || valSize === 0) return [rows, []];
  const wanted = valSize < 1 ? Math.max(1, Math.round(valSize * rows.length)) : valSize;
  if (wanted >= rows.length) {
    throw new QdoraError(
      "val_size",
      `leaves no row to train on, got ${valSize} of ${rows.length} rows (limit ${rows.length - 1})`,
      "lower val_size",
      { exitCode: 2 },
    );
  }
  const random = new RandomSource(options.seed, HELD_OUT_STREAM);
  const held = new Set<number>();
  while (held.size < wanted) held.add(random.nextBelow(rows.length));
  return [rows.filter((_, i) => !held.has(i)), rows.filter((_, i) => held.has(i))];
}

function checkScored(rows: readonly EncodedRow[], part: string, path: string): void {
  if (rows.some((row) => row.scored > 0)) return;
  throw new QdoraError(
    "data",
    `no ${part} row of ${path} has a scored label (${rows.length} rows)`,
    "check that answers are not empty and not cut off by max_seq_length, or set train_on_prompt",
  );
}

function countRows(rows: readonly EncodedRow[]): DataCounts {
  let [truncated, unscored, tokens, scoredTokens] = [0, 0, 0, 0];
  for (const row of rows) {
    if (row.truncated) truncated += 1;
    if (row.scored === 0) unscored += 1;
    tokens += row.inputIds.length;
    scoredTokens += row.scored;
  }
  return { rows: rows.length, truncated, unscored, tokens, scoredTokens };
}
