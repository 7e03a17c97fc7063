/**
 * Row sums of squares of an NF4 matrix, from its codes: ||W_j||^2 is the sum, over the parts of blocks that lie in row j, of
 * absmax^2 times the sum of squared levels. The second factor is taken while the codes pass by; the first is known only at
 * the end of a tensor with double quantisation.
 */
import { NF4_TABLE } from "./nf4.js";

/** level^2, and for a whole byte the sum of its two. */
const SQUARE = Float64Array.from(NF4_TABLE, (level) => level * level);
const PAIR_SQUARE = Float64Array.from({ length: 256 }, (_, pair) => SQUARE[pair >> 4]! + SQUARE[pair & 15]!);

/** Sum of squared levels of the codes from flat index `start` to `end`. */
function levelSquares(codes: Uint8Array, start: number, end: number): number {
  let sum = 0;
  if (start % 2 === 1) sum += SQUARE[codes[start >> 1]! & 15]!;
  const last = end >> 1;
  for (let i = (start + 1) >> 1; i < last; i++) sum += PAIR_SQUARE[codes[i]!]!;
  if (end % 2 === 1 && end > start) sum += SQUARE[codes[last]! >> 4]!;
  return sum;
}

export class RowSquares {
  readonly #width: number;
  readonly #blockSize: number;
  readonly #rows: number;
  /** One sum for each part of a block in a row, in the order of the matrix. */
  readonly #parts: Float64Array;
  #filled = 0;
  /** Values so far. */
  #values = 0;

  constructor(rows: number, width: number, blockSize: number) {
    this.#rows = rows;
    this.#width = width;
    this.#blockSize = blockSize;
    const whole = width % blockSize === 0;
    // Every row start that is no block start cuts a block in two.
    this.#parts = new Float64Array(Math.ceil((rows * width) / blockSize) + (whole ? 0 : rows));
  }

  /**
   * The next rows of the matrix.
   * @param codes bitsandbytes' bytes, the first value in the high nibble; may be longer
   * @param rows whole rows, starting at a byte
   */
  add(codes: Uint8Array, rows: number): void {
    const first = this.#values;
    const end = first + rows * this.#width;
    while (this.#values < end) {
      const next = Math.min(this.#nextBlock(), this.#nextRow());
      this.#parts[this.#filled++] = levelSquares(codes, this.#values - first, next - first);
      this.#values = next;
    }
  }

  #nextBlock(): number {
    return this.#values - (this.#values % this.#blockSize) + this.#blockSize;
  }

  #nextRow(): number {
    return this.#values - (this.#values % this.#width) + this.#width;
  }

  /**
   * After all rows.
   * @param absmax of each block, as products will see it
   * @returns [rows] ||W_j||^2
   */
  finish(absmax: Float32Array): Float32Array {
    if (this.#values !== this.#rows * this.#width) throw new Error("row squares of an unfinished matrix");
    const squares = new Float32Array(this.#rows);
    let part = 0;
    for (let row = 0; row < this.#rows; row++) {
      const end = (row + 1) * this.#width;
      let sum = 0;
      for (let at = row * this.#width; at < end;) {
        const block = Math.floor(at / this.#blockSize);
        const largest = absmax[block]!;
        sum += this.#parts[part++]! * (largest * largest);
        at = Math.min(end, (block + 1) * this.#blockSize);
      }
      squares[row] = sum;
    }
    return squares;
  }
}
