/** A micro-batch: rows laid end to end in one stream of N tokens, with labels already shifted. No padding. */
import { IGNORED_LABEL, type EncodedRow } from "./row.js";
import type { Units } from "./token_rows.js";

export interface MicroBatch {
  /** N. */
  readonly tokens: number;
  /** [N] */
  readonly inputIds: Int32Array;
  /** [N] position within its row, from 0 */
  readonly positions: Int32Array;
  /** [N] index in the stream where the token's row starts */
  readonly sequenceStart: Int32Array;
  /** [N] index in the stream one past the token's row */
  readonly sequenceEnd: Int32Array;
  /** [N] the label that the logits at t are scored with (the row's label of t + 1); -100 = none, as at each row's last token */
  readonly labels: Int32Array;
  /** Labels that are not -100. */
  readonly scored: number;
}

/** Lays rows end to end. */
export function makeMicroBatch(rows: readonly EncodedRow[]): MicroBatch {
  const tokens = rows.reduce((sum, row) => sum + row.inputIds.length, 0);
  const inputIds = new Int32Array(tokens);
  const positions = new Int32Array(tokens);
  const sequenceStart = new Int32Array(tokens);
  const sequenceEnd = new Int32Array(tokens);
  const labels = new Int32Array(tokens).fill(IGNORED_LABEL);
  let start = 0;
  let scored = 0;
  for (const row of rows) {
    const end = start + row.inputIds.length;
    inputIds.set(row.inputIds, start);
    labels.set(row.labels.subarray(1), start);
    sequenceStart.fill(start, start, end);
    sequenceEnd.fill(end, start, end);
    for (let t = start; t < end; t++) positions[t] = t - start;
    scored += row.scored;
    start = end;
  }
  return { tokens, inputIds, positions, sequenceStart, sequenceEnd, labels, scored };
}

/** Rows whose lengths are known without reading them. */
interface RowLengths {
  readonly length: number;
  tokensOf(row: number): number;
}

/**
 * The most tokens that any micro-batch of a run can have, whatever the order: the longest units together, or the longest held-out row.
 * @param batchSize units in a micro-batch
 */
export function longestMicroBatchTokens(
  dataset: { readonly train: RowLengths; readonly validation: RowLengths; readonly units: Units },
  batchSize: number,
): number {
  const { train, validation, units } = dataset;
  const unitTokens = new Float64Array(units.length);
  for (let unit = 0; unit < units.length; unit++)
    unitTokens[unit] = units.rowsOf(unit).reduce((sum, row) => sum + train.tokensOf(row), 0);
  // The last step of an epoch may be short, never longer.
  const longest = unitTokens.sort().subarray(Math.max(0, unitTokens.length - batchSize));
  return Math.max(
    longest.reduce((sum, n) => sum + n, 0),
    longestRowTokens(validation),
  );
}

/** Tokens of the longest row; 0 if there are none. */
export function longestRowTokens(rows: RowLengths): number {
  let most = 0;
  for (let row = 0; row < rows.length; row++) most = Math.max(most, rows.tokensOf(row));
  return most;
}
