/** Rows of a data set as the loop sees them: some rows of some token files, in some order, read when asked for. */
import type { EncodedRow } from "./row.js";
import type { TokenFile } from "./token_file.js";

/** A row's place: which file, and which of its rows. */
interface Place {
  readonly file: TokenFile;
  readonly row: number;
}

export class TokenRows implements Iterable<EncodedRow> {
  readonly #files: readonly TokenFile[];
  /** First row of each file, counted over all of them. */
  readonly #starts: readonly number[];
  /** [length] rows counted over all files; undefined = all, in order */
  readonly #index: Uint32Array | undefined;
  readonly length: number;

  constructor(files: readonly TokenFile[], index?: Uint32Array) {
    this.#files = files;
    let rows = 0;
    this.#starts = files.map((file) => (rows += file.rows) - file.rows);
    this.#index = index;
    this.length = index?.length ?? rows;
  }

  /** Tokens of a row, without reading it. */
  tokensOf(row: number): number {
    const { file, row: inFile } = this.#place(row);
    return file.lengths[inFile] ?? 0;
  }

  /** Labels of a row that count, without reading it. */
  scoredOf(row: number): number {
    const { file, row: inFile } = this.#place(row);
    return file.scored[inFile] ?? 0;
  }

  isTruncated(row: number): boolean {
    const { file, row: inFile } = this.#place(row);
    return file.isTruncated(inFile);
  }

  /** @throws RangeError if there is no such row */
  row(row: number): EncodedRow {
    const { file, row: inFile } = this.#place(row);
    return file.row(inFile);
  }

  *[Symbol.iterator](): Iterator<EncodedRow> {
    for (let row = 0; row < this.length; row++) yield this.row(row);
  }

  #place(row: number): Place {
    const over = this.#index ? this.#index[row] : row;
    if (over === undefined || row < 0 || row >= this.length)
      throw new RangeError(`row ${row} of ${this.length}`);
    let [low, high] = [0, this.#files.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#starts[middle] ?? 0) <= over) low = middle;
      else high = middle - 1;
    }
    const file = this.#files[low];
    if (!file) throw new RangeError(`row ${row} of no file`);
    return { file, row: over - (this.#starts[low] ?? 0) };
  }
}

/** What the loop shuffles and counts as its batch: single rows, or bins of packed ones. */
export interface Units {
  readonly length: number;
  /** Rows of a unit, as indices into the training rows. */
  rowsOf(unit: number): readonly number[];
}

/** A unit of each row. */
export const singleUnits = (rows: number): Units => ({ length: rows, rowsOf: (unit) => [unit] });

/** A unit of each bin. */
export const packedUnits = (bins: readonly (readonly number[])[]): Units => ({
  length: bins.length,
  rowsOf: (unit) => bins[unit] ?? [],
});
