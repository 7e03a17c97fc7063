/** Rows of a matrix whose values come as one flat array, in pieces. */

/**
 * Adds the squares of values to the rows they belong to.
 * @param squares [rows] sums so far
 * @param values values of the matrix from flat index `flat` on
 * @param width row length
 */
export function addRowSquares(
  squares: Float64Array,
  values: Float32Array,
  flat: number,
  width: number,
): void {
  for (let i = 0; i < values.length;) {
    const row = Math.floor((flat + i) / width);
    const end = Math.min(values.length, (row + 1) * width - flat);
    let sum = 0;
    for (; i < end; i++) sum += values[i]! * values[i]!;
    squares[row] = squares[row]! + sum;
  }
}

/**
 * Starts each row of NF4 codes at a whole u32.
 * @param codes bitsandbytes' bytes of whole rows, the first value in the high nibble; rows may start inside a byte
 * @returns [rows, ceil(width / 8) * 4] bytes, zero after the end of a row
 */
export function padCodeRows(codes: Uint8Array, rows: number, width: number): Uint8Array {
  const rowBytes = Math.ceil(width / 8) * 4;
  const out = new Uint8Array(rows * rowBytes);
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < width; k++) {
      const flat = row * width + k;
      const code = flat % 2 === 0 ? codes[flat >> 1]! >> 4 : codes[flat >> 1]! & 15;
      const at = row * rowBytes + (k >> 1);
      out[at] = out[at]! | (k % 2 === 0 ? code << 4 : code);
    }
  }
  return out;
}
