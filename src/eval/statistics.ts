/** Means with standard errors, and paired comparisons of two models on the same items. */
import { RandomSource } from "../program/random.js";

export interface Mean {
  readonly value: number;
  /** Of the mean, from the sample's deviation (n - 1); undefined for a single item. */
  readonly standardError: number | undefined;
}

export function mean(values: readonly number[]): Mean {
  const n = values.length;
  const value = values.reduce((sum, x) => sum + x, 0) / n;
  const squares = values.reduce((sum, x) => sum + (x - value) ** 2, 0);
  return { value, standardError: n > 1 ? Math.sqrt(squares / (n - 1) / n) : undefined };
}

export interface PairedAccuracy {
  /** Adapter minus base. */
  readonly difference: number;
  readonly standardError: number | undefined;
  /** Items that only one of them has right. */
  readonly onlyAdapter: number;
  readonly onlyBase: number;
  /** McNemar's test, exact and two-sided. */
  readonly pValue: number;
}

/** @param adapter, base 0 or 1 for each item, in the same order */
export function pairedAccuracy(adapter: readonly number[], base: readonly number[]): PairedAccuracy {
  const differences = adapter.map((x, i) => x - (base[i] ?? NaN));
  const { value, standardError } = mean(differences);
  const onlyAdapter = differences.filter((d) => d > 0).length;
  const onlyBase = differences.filter((d) => d < 0).length;
  return { difference: value, standardError, onlyAdapter, onlyBase, pValue: signTest(onlyAdapter, onlyBase) };
}

/** Two-sided probability of a split at least as uneven as `a` to `b` among a + b fair coins. */
export function signTest(a: number, b: number): number {
  const n = a + b;
  let logChoose = -n * Math.LN2;
  let tail = 0;
  for (let k = 0; k <= Math.min(a, b); k++) {
    tail += Math.exp(logChoose);
    logChoose += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * tail);
}

/** A row of a text: its summed loss and the tokens (or bytes) that it is spread over. */
export interface Weighted {
  readonly sum: number;
  readonly weight: number;
}

/** Sum over sum; its standard error treats rows as the independent draws (linearised). */
export function ratio(rows: readonly Weighted[]): Mean {
  const [sum, weight] = rows.reduce(([s, w], row) => [s + row.sum, w + row.weight], [0, 0]);
  const value = sum / weight;
  const n = rows.length;
  const squares = rows.reduce((total, row) => total + (row.sum - value * row.weight) ** 2, 0);
  return { value, standardError: n > 1 ? Math.sqrt((squares * n) / (n - 1)) / weight : undefined };
}

const RESAMPLES = 1000;
const BOOTSTRAP_STREAM = 5;

/** The middle 95 % of the ratio over rows drawn anew with replacement; the same seed gives the same interval. */
export function bootstrapInterval(rows: readonly Weighted[], seed = 0): readonly [number, number] {
  const random = new RandomSource(seed, BOOTSTRAP_STREAM);
  const n = rows.length;
  const values = new Float64Array(RESAMPLES);
  for (let resample = 0; resample < RESAMPLES; resample++) {
    let [sum, weight] = [0, 0];
    for (let i = 0; i < n; i++) {
      const row = rows[random.nextBelow(n)];
      sum += row?.sum ?? 0;
      weight += row?.weight ?? 0;
    }
    values[resample] = weight > 0 ? sum / weight : 0;
  }
  values.sort();
  return [values[Math.floor(0.025 * RESAMPLES)] ?? NaN, values[Math.ceil(0.975 * RESAMPLES) - 1] ?? NaN];
}
