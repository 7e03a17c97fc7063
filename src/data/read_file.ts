/** Rows out of a file of any known format, before their shape is known. */
import { extname } from "node:path";
import type { ColumnMap } from "./columns.js";
import { readCsv } from "./csv.js";
import { readJsonList, startsWithList } from "./json_list.js";
import { readLines } from "./lines.js";
import { readParquet, type WantedColumns } from "./parquet.js";
import type { RawRow } from "./raw_row.js";

/** Endings that can be read; where one name stands with several, the first is taken. */
export const EXTENSIONS = [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"];

/** CSV has all its columns anyway. */
const NO_COLUMNS: ColumnMap = {};

/** The rows of a file, in its order. @throws QdoraError if the file as a whole cannot be read */
export async function* readFileRows(
  path: string,
  columns: WantedColumns,
): AsyncGenerator<RawRow, void, void> {
  yield* await openRows(path, columns);
}

async function openRows(path: string, columns: WantedColumns): Promise<AsyncGenerator<RawRow, void, void>> {
  switch (extname(path).toLowerCase()) {
    case ".parquet":
      return readParquet(path, columns);
    case ".csv":
    case ".tsv":
      return readCsv(path, columns === "all" ? NO_COLUMNS : columns);
    case ".json":
      // Many `.json` files hold one object on each line.
      return (await startsWithList(path)) ? readJsonList(path) : readLines(path);
    default:
      return readLines(path);
  }
}
