/** Results as a table for people. */
import type { PartResult } from "./results.js";
import type { Mean } from "./statistics.js";

type Line = readonly string[];

const withError = ({ value, standardError }: Mean, digits: number): string =>
  value.toFixed(digits) + (standardError === undefined ? "" : ` ± ${standardError.toFixed(digits)}`);

const signed = (value: number, digits: number): string => `${value < 0 ? "" : "+"}${value.toFixed(digits)}`;

const signedError = (paired: {
  readonly difference: number;
  readonly standardError: number | undefined;
}): string =>
  signed(paired.difference, 4) +
  (paired.standardError === undefined ? "" : ` ± ${paired.standardError.toFixed(4)}`);

const pText = (p: number): string => (p < 0.0001 ? "p < 0.0001" : `p = ${p.toFixed(4)}`);

function linesOf(result: PartResult): readonly Line[] {
  if (result.kind === "task")
    return Object.entries(result.metrics).map(([name, metric], i) => [
      i === 0 ? result.name : "",
      i === 0 ? result.items.toLocaleString("en-US") : "",
      name,
      ...(metric.base ? [withError(metric.base, 4)] : []),
      withError(metric, 4),
      ...(metric.paired
        ? [
            signedError(metric.paired),
            `${pText(metric.paired.pValue)} (${metric.paired.onlyAdapter} gained, ${metric.paired.onlyBase} lost)`,
          ]
        : []),
    ]);
  const { perToken, perByte } = result;
  const perplexity = (mean: Mean): string => Math.exp(mean.value).toFixed(4);
  const bits = (mean: Mean): string => (mean.value / Math.LN2).toFixed(4);
  const difference = (of: (mean: Mean) => number): string =>
    perToken.base ? signed(of(perToken) - of(perToken.base), 4) : "";
  return [
    [
      result.name,
      result.tokens.toLocaleString("en-US"),
      "nll per token",
      ...(perToken.base ? [withError(perToken.base, 4)] : []),
      withError(perToken, 4),
      ...(perToken.paired
        ? [
            signedError(perToken.paired),
            `95 %: ${perToken.paired.interval.map((end) => signed(end, 4)).join(" to ")}`,
          ]
        : []),
    ],
    [
      "",
      "",
      "perplexity",
      ...(perToken.base ? [perplexity(perToken.base)] : []),
      perplexity(perToken),
      ...(perToken.base ? [difference((mean) => Math.exp(mean.value)), ""] : []),
    ],
    ...(perByte
      ? [
          [
            "",
            "",
            "bits per byte",
            ...(perByte.base ? [bits(perByte.base)] : []),
            bits(perByte),
            ...(perByte.base ? [signed((perByte.value - perByte.base.value) / Math.LN2, 4), ""] : []),
          ],
        ]
      : []),
  ];
}

/** The rows of a table under each other; the last line ends the text. */
export function resultsTable(results: readonly PartResult[]): string {
  const isPaired = results.some((r) =>
    r.kind === "task"
      ? Object.values(r.metrics).some((metric) => metric.base)
      : r.perToken.base !== undefined,
  );
  const head = ["", "items", "metric", ...(isPaired ? ["base", "adapter", "difference", ""] : ["value"])];
  const lines = [head, ...results.flatMap(linesOf)];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  const padded = (line: Line): string =>
    line
      .map((cell, c) => (c === 1 ? cell.padStart(widths[c] ?? 0) : cell.padEnd(widths[c] ?? 0)))
      .join("  ")
      .trimEnd();
  const notes = results.flatMap((result) => [
    ...(result.truncated > 0 ? [`${result.name}: ${result.truncated} cut because they were too long`] : []),
    ...(result.kind === "text" && result.broken > 0
      ? [`${result.name}: ${result.broken} broken rows left out`]
      : []),
  ]);
  return [...lines.map(padded), ...notes].map((line) => `${line}\n`).join("");
}
