/** Rows laid end to end as one stream of tokens to score. A row's last token is only ever a label, so it is left out. */
import { IGNORED_LABEL, type EncodedRow } from "../data/row.js";

export interface ScoringStream {
  /** N. */
  readonly tokens: number;
  /** [N] */
  readonly inputIds: Int32Array;
  /** [N] position within its row */
  readonly positions: Int32Array;
  /** [N, 2] where the token's row starts and ends in the stream */
  readonly spans: Uint32Array;
  /** [N] what follows each token; -100 = not scored */
  readonly labels: Int32Array;
  /** Start and end of each row. */
  readonly rows: readonly (readonly [number, number])[];
}

type Row = Pick<EncodedRow, "inputIds" | "labels">;

/** Tokens of a row that pass through the model. */
export const streamTokens = (row: Row): number => Math.max(0, row.inputIds.length - 1);

export function scoringStream(rows: readonly Row[]): ScoringStream {
  const tokens = rows.reduce((sum, row) => sum + streamTokens(row), 0);
  const inputIds = new Int32Array(tokens);
  const positions = new Int32Array(tokens);
  const spans = new Uint32Array(2 * tokens);
  const labels = new Int32Array(tokens).fill(IGNORED_LABEL);
  const places: (readonly [number, number])[] = [];
  let start = 0;
  for (const row of rows) {
    const end = start + streamTokens(row);
    inputIds.set(row.inputIds.subarray(0, end - start), start);
    labels.set(row.labels.subarray(1, 1 + end - start), start);
    for (let t = start; t < end; t++) {
      positions[t] = t - start;
      spans[2 * t] = start;
      spans[2 * t + 1] = end;
    }
    places.push([start, end]);
    start = end;
  }
  return { tokens, inputIds, positions, spans, labels, rows: places };
}
