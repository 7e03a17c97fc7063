/** A micro-batch: rows laid end to end in one stream of N tokens, with labels already shifted. No padding. */
import { IGNORED_LABEL, type EncodedRow } from "./row.js";

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

/**
 * The most tokens that any micro-batch of a run can have, whatever the order: the longest units together, or the longest held-out row.
 * @param batchSize units in a micro-batch
 */
export function longestMicroBatchTokens(
  dataset: {
    readonly train: readonly EncodedRow[];
    readonly validation: readonly EncodedRow[];
    readonly units: readonly (readonly number[])[];
  },
  batchSize: number,
): number {
  const unitTokens = Float64Array.from(dataset.units, (rows) =>
    rows.reduce((sum, row) => sum + (dataset.train[row]?.inputIds.length ?? 0), 0),
  );
  // The last step of an epoch may be short, never longer.
  const longest = unitTokens.sort().subarray(Math.max(0, unitTokens.length - batchSize));
  const validation = dataset.validation.reduce((most, row) => Math.max(most, row.inputIds.length), 0);
  return Math.max(
    longest.reduce((sum, n) => sum + n, 0),
    validation,
  );
}
