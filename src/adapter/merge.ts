/**
 * An adapter folded into rows of its base weight, in f64: W + s B A (LoRA), or (m / ||W + s B A||) (W + s B A) with the
 * norm over each row (DoRA, arXiv 2402.09353, equation 5). Rounded once, to f32.
 */
import type { FactorValues } from "./initial.js";

export interface MergeShape {
  readonly in: number;
  readonly rank: number;
  /** s */
  readonly scaling: number;
}

/**
 * Folds the adapter into rows in place. A row that is all zero stays so, whatever its magnitude says, as in training.
 * @param rows [n, in] f32 of the base, whole rows
 * @param firstRow the row of the whole matrix that `rows` starts at
 * @param factors A [rank, in], B [out, rank], m [out]
 */
export function mergeRows(
  rows: Float32Array,
  firstRow: number,
  shape: MergeShape,
  factors: FactorValues,
): void {
  const { in: width, rank, scaling } = shape;
  const { a, b, magnitude } = factors;
  const sum = new Float64Array(width);
  for (let at = 0, row = firstRow; at < rows.length; at += width, row++) {
    sum.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = b[row * rank + r]!;
      const from = r * width;
      for (let k = 0; k < width; k++) sum[k] = sum[k]! + factor * a[from + k]!;
    }
    let squares = 0;
    for (let k = 0; k < width; k++) {
      const value = rows[at + k]! + scaling * sum[k]!;
      sum[k] = value;
      squares += value * value;
    }
    const gain = magnitude === undefined ? 1 : squares === 0 ? 0 : magnitude[row]! / Math.sqrt(squares);
    for (let k = 0; k < width; k++) rows[at + k] = gain * sum[k]!;
  }
}
