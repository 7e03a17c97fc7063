/** Rows that are broken: a few are left out and named, more than 1 % stop the run. */
import { QdoraError } from "../formats/error.js";
import type { BrokenRow } from "./raw_row.js";

const LIMIT = 0.01;

export interface BrokenRows {
  readonly count: number;
  /** The first of them, as "file:line: what is wrong". */
  readonly named: readonly string[];
}

/**
 * @param paths of the files that the rows name by index
 * @param count of all broken rows; `broken` may hold the first of them only
 * @param rows sound and broken ones
 * @throws QdoraError with the first one's message if there are too many
 */
export function checkBroken(
  paths: readonly string[],
  broken: readonly BrokenRow[],
  count: number,
  rows: number,
): BrokenRows {
  const [first] = broken;
  if (first && count > LIMIT * rows) {
    const others = broken.slice(1, 6).map((row) => row.at.replace(/^:\s*/, ""));
    const more =
      count === 1
        ? ""
        : `; ${count} of ${rows} rows are broken (limit ${LIMIT * 100} %), also ${others.join(", ")}${count > 6 ? ", …" : ""}`;
    throw new QdoraError(placeOf(paths, first), first.fact + more, first.hint);
  }
  return { count, named: broken.map((row) => `${placeOf(paths, row)}: ${row.fact}`) };
}

const placeOf = (paths: readonly string[], row: BrokenRow): string => `${paths[row.file] ?? ""}${row.at}`;
