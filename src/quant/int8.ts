/** Rows of a matrix as signed bytes with one scale each, on the CPU: value = code / 127 * absmax, the codes -127 .. 127. */

/** Adding and subtracting it rounds an f64 of less than 2^51 to a whole number, ties to even. */
const ROUNDER = 1.5 * 2 ** 52;

/** Bytes of a row of codes: whole u32. */
export const int8RowBytes = (width: number): number => Math.ceil(width / 4) * 4;

/**
 * Rounds to the nearest code, ties to the even one.
 * @param values [rows, width] finite
 * @param codes [rows, int8RowBytes(width)], overwritten; zero after the end of a row
 * @param absmax [rows], overwritten: the largest magnitude of each row
 */
export function quantizeInt8Rows(
  values: Float32Array,
  width: number,
  codes: Int8Array,
  absmax: Float32Array,
): void {
  const rowBytes = int8RowBytes(width);
  for (let row = 0; row < absmax.length; row++) {
    const first = row * width;
    let largest = 0;
    for (let i = first; i < first + width; i++) largest = Math.max(largest, Math.abs(values[i]!));
    absmax[row] = largest;
    const at = row * rowBytes;
    // 127 v / absmax of two f32: what is no tie lies 2^-33 or more beside one, which f64 sees.
    for (let k = 0; k < width; k++)
      codes[at + k] = largest === 0 ? 0 : (values[first + k]! * 127) / largest + ROUNDER - ROUNDER;
    codes.fill(0, at + width, at + rowBytes);
  }
}
