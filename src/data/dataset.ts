/** A whole data set as tokens: training rows, held-out rows, and the units that the loop shuffles. Rows stay on disk where they are many. */
import { createHash } from "node:crypto";
import { QdoraError } from "../formats/error.js";
import type { BrokenRows } from "./broken_rows.js";
import { checkColumns, type ColumnMap } from "./columns.js";
import type { EncodeOptions } from "./encode.js";
import type { EncodeSettings } from "./encode_pool.js";
import { findDataFiles } from "./find_files.js";
import { holdOut, repeatByWeight } from "./mix.js";
import { packRows } from "./pack.js";
import { loadPart, type DataPart } from "./part.js";
import { parseSources, sourceName, type DataSource } from "./sources.js";
import { packedUnits, singleUnits, TokenRows, type Units } from "./token_rows.js";
import type { Tokenizer } from "./tokenizer.js";

export interface DatasetOptions extends EncodeOptions {
  /** Files, folders or hub data sets, each perhaps with a split and a slice (sources.ts). */
  readonly data: string | readonly string[];
  /** One for each source; all 1 if left out. */
  readonly weights?: readonly number[] | undefined;
  /** Field -> column; rows as they are if left out. */
  readonly columns?: ColumnMap | undefined;
  /** Not needed for rows of ready-made ids. */
  readonly tokenizer?: Tokenizer | undefined;
  /** Why there is no tokenizer; thrown when a row needs one. */
  readonly tokenizerError?: unknown;
  /** Lay short rows together in units of up to maxSeqLength tokens. */
  readonly packing?: boolean;
  /** Rows to hold out: a fraction below 1, else a number of rows. */
  readonly valSize?: number | undefined;
  /** Stops the encoding. */
  readonly signal?: AbortSignal | undefined;
  /** Picks the held-out rows, and which rows a weight below 1 leaves. */
  readonly seed: number;
}

export interface Dataset {
  readonly train: TokenRows;
  readonly validation: TokenRows;
  readonly units: Units;
  /** Over training and held-out rows, as often as they count in an epoch. */
  readonly counts: DataCounts;
  readonly sources: readonly LoadedSource[];
  /** Rows that were left out. */
  readonly broken: BrokenRows;
  /** A hash of the bytes of all files, and of what was chosen from them: another one is another data set. */
  readonly fingerprint: string;
  /** Closes the files behind the rows. */
  close(): void;
}

export interface LoadedSource {
  readonly source: DataSource;
  /** Names of all splits of a folder. */
  readonly splits: readonly string[];
  readonly train: DataPart;
  readonly validation: DataPart | undefined;
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

/** @throws QdoraError for too many broken rows, no rows, or not one scored label */
export async function loadDataset(options: DatasetOptions): Promise<Dataset> {
  const dataset = await openDataset(options);
  try {
    const names = dataset.sources.map(({ train }) => train.files.name).join(", ");
    checkScored(dataset.train, "train", names);
    const held = dataset.sources.flatMap(({ validation }) => validation?.files.name ?? []).join(", ");
    if (dataset.validation.length > 0) checkScored(dataset.validation, "held-out", held || names);
    return dataset;
  } catch (error) {
    dataset.close();
    throw error;
  }
}

/** The data set even if nothing in it is scored. @throws QdoraError for too many broken rows, or no rows */
export async function openDataset(options: DatasetOptions): Promise<Dataset> {
  const sources = await loadSources(options);
  const parts = sources.flatMap(({ train, validation }) => (validation ? [train, validation] : [train]));
  const close = (): void => {
    for (const { tokens } of parts) tokens.close();
  };
  try {
    const trainFiles = sources.map(({ train }) => train.tokens);
    const given = sources.flatMap(({ validation }) => validation?.tokens ?? []);
    const held = holdOut(trainFiles, options.valSize, options.seed);
    const weights = sources.map(({ source }) => source.weight);
    const train = new TokenRows(trainFiles, repeatByWeight(trainFiles, held, weights, options.seed));
    const validation = held ? new TokenRows(trainFiles, held) : new TokenRows(given);
    return {
      train,
      validation,
      units: options.packing
        ? packedUnits(packRows(lengthsOf(train), options.maxSeqLength))
        : singleUnits(train.length),
      counts: countRows([train, validation]),
      sources,
      broken: {
        count: parts.reduce((count, { broken }) => count + broken.count, 0),
        named: parts.flatMap(({ broken }) => broken.named),
      },
      fingerprint: createHash("sha256")
        .update(JSON.stringify([parts.map((part) => part.fingerprint), weights]))
        .digest("hex"),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

async function loadSources(options: DatasetOptions): Promise<readonly LoadedSource[]> {
  const { columns = {}, valSize } = options;
  checkColumns(columns);
  const sources = parseSources(options.data, options.weights);
  const files = await Promise.all(sources.map(findDataFiles));
  const settings: EncodeSettings = { ...options, columns };
  for (const [i, source] of sources.entries()) {
    const held = files[i]?.validation ?? [];
    if (valSize === undefined || held.length === 0) continue;
    throw new QdoraError(
      "val_size",
      `${source.path} holds held-out rows already (${held[0]})`,
      "leave val_size out, or name the training file in data",
      { exitCode: 2 },
    );
  }
  const loaded: LoadedSource[] = [];
  for (const [i, source] of sources.entries()) {
    const { train = [], validation = [], splits = new Map<string, unknown>() } = files[i] ?? {};
    const part = (paths: readonly string[], from: number, to: number): Promise<DataPart> =>
      loadPart(
        { name: paths.length === 1 ? (paths[0] ?? "") : sourceName(source), paths, from, to },
        settings,
      );
    loaded.push({
      source,
      splits: [...splits.keys()].toSorted(),
      train: await part(train, source.from, source.to),
      validation: validation.length > 0 ? await part(validation, 0, Infinity) : undefined,
    });
  }
  return loaded;
}

function checkScored(rows: TokenRows, part: string, path: string): void {
  for (let row = 0; row < rows.length; row++) if (rows.scoredOf(row) > 0) return;
  throw new QdoraError(
    "data",
    `no ${part} row of ${path} has a scored label (${rows.length} rows)`,
    "check that each row has an answer (in chats a turn whose role is assistant) that is neither empty nor cut off by max_seq_length, or set train_on_prompt",
  );
}

function lengthsOf(rows: TokenRows): Uint32Array {
  const lengths = new Uint32Array(rows.length);
  for (let row = 0; row < rows.length; row++) lengths[row] = rows.tokensOf(row);
  return lengths;
}

function countRows(parts: readonly TokenRows[]): DataCounts {
  let [total, truncated, unscored, tokens, scoredTokens] = [0, 0, 0, 0, 0];
  for (const rows of parts) {
    total += rows.length;
    for (let row = 0; row < rows.length; row++) {
      const scored = rows.scoredOf(row);
      if (rows.isTruncated(row)) truncated += 1;
      if (scored === 0) unscored += 1;
      tokens += rows.tokensOf(row);
      scoredTokens += scored;
    }
  }
  return { rows: total, truncated, unscored, tokens, scoredTokens };
}
