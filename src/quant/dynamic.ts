/**
 * The 8-bit dynamic data type (Dettmers, arXiv 1511.04561) as bitsandbytes: the maps that its create_dynamic_map makes, bit
 * for bit, and the nearest entry as its CUDA kernels find it. Signed for first moments and block maxima, unsigned for second moments.
 */
const { fround } = Math;

/** torch.linspace(0.1, 1, points) in f32: from both ends towards the middle, each a fused multiply-add. */
function linspace(points: number): number[] {
  const [start, end] = [fround(0.1), 1];
  const step = fround((end - start) / (points - 1));
  return Array.from({ length: points }, (_, i) =>
    fround(i < points / 2 ? start + step * i : end - step * (points - 1 - i)),
  );
}

/**
 * bitsandbytes' create_dynamic_map(signed, 7 exponent bits, 8 bits): for each power of ten from 1e-6 to 1 twice as many
 * steps as for the one before, in both signs or twice as many again in one; then 0 and 1.
 */
function dynamicMap(signed: boolean): Float32Array {
  const entries = [0, 1];
  for (let i = 0; i < 7; i++) {
    const scale = fround(10 ** (i - 6));
    const edges = linspace(2 ** (signed ? i : i + 1) + 1);
    for (let k = 0; k + 1 < edges.length; k++) {
      const middle = fround(fround(edges[k]! + edges[k + 1]!) / 2);
      entries.push(fround(scale * middle));
      if (signed) entries.push(fround(-scale * middle));
    }
  }
  return Float32Array.from(entries).sort();
}

/** The 256 entries of the signed map, rising from -0.99296874 to 1; entry 127 is 0. */
export const DYNAMIC_MAP: Float32Array = dynamicMap(true);

/** The 256 entries of the unsigned map, rising from 0 to 1. */
export const UNSIGNED_DYNAMIC_MAP: Float32Array = dynamicMap(false);

/**
 * The code of the entry nearest to x. The search is that of bitsandbytes' CUDA kernels: a midpoint, in f32, belongs to
 * the even one of its two codes.
 * @param map [256] rising
 */
export function nearestEntry(map: ArrayLike<number>, x: number): number {
  let pivot = 127;
  let below = 0;
  let above = 255;
  for (let step = 64; step > 0; step >>= 1) {
    if (x > map[pivot]!) {
      below = pivot;
      pivot += step;
    } else {
      above = pivot;
      pivot -= step;
    }
  }
  const value = map[pivot]!;
  if (x > value) return x > fround(fround(map[above]! + value) * 0.5) ? above : pivot;
  return x < fround(fround(map[below]! + value) * 0.5) ? below : pivot;
}
