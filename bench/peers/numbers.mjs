// Whether results of peers are right, and how much work a product is.

/** Largest difference over the largest expected magnitude; Infinity where sizes differ or a number is not finite. */
export function relativeError(found, expected) {
  if (found.length !== expected.length) return Infinity;
  let [largest, difference] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const apart = Math.abs(found[i] - expected[i]);
    if (!(apart < Infinity)) return Infinity;
    difference = Math.max(difference, apart);
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
}

/** Floating point operations of a product, a multiply-add counted as two. */
export const productFlops = (tokens, [inputs, out]) => 2 * tokens * inputs * out;
