/** How many rows are how long, in bins that double. */

export interface Bin {
  /** Lengths from `from` to `to`, both included. */
  readonly from: number;
  readonly to: number;
  readonly rows: number;
}

/** @returns bins 0, 1, 2-3, 4-7, … from the shortest length to the longest; empty ones at either end are left out */
export function lengthHistogram(lengths: Iterable<number>): readonly Bin[] {
  const counts: number[] = [];
  for (const length of lengths) {
    const bin = length === 0 ? 0 : 1 + Math.floor(Math.log2(length));
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  const bins: Bin[] = [];
  for (let bin = 0; bin < counts.length; bin++) {
    const rows = counts[bin] ?? 0;
    if (rows === 0 && bins.length === 0) continue;
    bins.push({ from: bin === 0 ? 0 : 2 ** (bin - 1), to: bin === 0 ? 0 : 2 ** bin - 1, rows });
  }
  return bins;
}

const BAR_WIDTH = 40;

/** A line for each bin. */
export function histogramLines(bins: readonly Bin[]): readonly string[] {
  const most = Math.max(1, ...bins.map((bin) => bin.rows));
  const label = (bin: Bin): string =>
    bin.from === bin.to
      ? String(bin.from)
      : `${bin.from.toLocaleString("en-US")}-${bin.to.toLocaleString("en-US")}`;
  const [labelWidth, countWidth] = [
    Math.max(...bins.map((bin) => label(bin).length)),
    Math.max(...bins.map((bin) => bin.rows.toLocaleString("en-US").length)),
  ];
  return bins.map((bin) => {
    const bar = "#".repeat(bin.rows === 0 ? 0 : Math.max(1, Math.round((bin.rows / most) * BAR_WIDTH)));
    return `${label(bin).padStart(labelWidth)}  ${bin.rows.toLocaleString("en-US").padStart(countWidth)}  ${bar}`.trimEnd();
  });
}
