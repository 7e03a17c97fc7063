/** Rows become compact records, a chunk of them at a time: what a worker thread does, or this one for small data. */
import { QdoraError } from "../formats/error.js";
import { renameColumns, type ColumnMap } from "./columns.js";
import { encodeRow, type EncodeOptions, type Encoder } from "./encode.js";
import { ColumnCounter, type ColumnCounts } from "./column_counts.js";
import { columnsOf, valueOf, type BrokenRow, type RawRow, type RowFault } from "./raw_row.js";
import type { DataRow, EncodedRow } from "./row.js";
import { readRow } from "./rows.js";
import { TokenRecords, type TokenChunk } from "./token_records.js";

export interface RawChunk {
  /** Index among the part's files; all rows of a chunk are of one file. */
  readonly file: number;
  readonly path: string;
  readonly rows: readonly RawRow[];
}

/** How many rows there were of each kind. */
export type KindCounts = Readonly<Record<DataRow["kind"], number>>;
export const NO_KINDS: KindCounts = { text: 0, completion: 0, chat: 0, instruction: 0, ids: 0 };

export interface EncodedChunk extends TokenChunk {
  readonly kinds: KindCounts;
  readonly columns: ColumnCounts;
  readonly broken: readonly BrokenRow[];
}

/** Rows encoded at a time, so that the template renderer always has something to do. */
const ROWS_AT_ONCE = 64;

/**
 * Checks a row's shape, after its columns were renamed.
 * @param onValue called with the row as it was before, if it has a shape
 * @returns the row, or why it is broken
 */
export function shapeOf(
  raw: RawRow,
  where: string,
  columns: ColumnMap,
  onValue: (value: unknown) => void = () => undefined,
): DataRow | { readonly fault: RowFault } {
  const found = valueOf(raw);
  if ("fault" in found) return found;
  const renamed = renameColumns(found.value, columns);
  if ("missing" in renamed) {
    const names = columnsOf(found.value)
      .slice(0, 8)
      .map((name) => JSON.stringify(name.slice(0, 40)));
    return {
      fault: {
        fact: `has no column ${JSON.stringify(renamed.missing)}; its columns are ${names.join(", ")}`,
        hint: "mend `columns`, or the row",
      },
    };
  }
  try {
    const row = readRow(renamed.value, where);
    onValue(found.value);
    return row;
  } catch (error) {
    return { fault: faultOf(error, where) };
  }
}

/** What is wrong with a row. @throws what is wrong with more than this row */
function faultOf(error: unknown, where: string, fatal?: unknown): RowFault {
  if (!(error instanceof QdoraError) || error === fatal || error.area === "chat template") throw error;
  const own = `${where}: `;
  return {
    fact: error.message.startsWith(own) ? error.message.slice(own.length) : error.message,
    hint: error.hint ?? "mend the row, or leave it out",
  };
}

/**
 * Encodes a chunk; broken rows are left out and named.
 * @throws QdoraError for what is wrong with all rows: no tokenizer, no chat template, a template that hangs
 */
export async function encodeChunk(
  chunk: RawChunk,
  encoder: Encoder,
  options: EncodeOptions & { readonly columns: ColumnMap },
): Promise<EncodedChunk> {
  const records = new TokenRecords(options.vocabSize);
  const kinds = { ...NO_KINDS };
  const broken: BrokenRow[] = [];
  const columns = new ColumnCounter();
  const encode = async (
    raw: RawRow,
    onValue: (value: unknown) => void,
  ): Promise<EncodedRow | { readonly fault: RowFault }> => {
    const where = chunk.path + raw.at;
    const row = shapeOf(raw, where, options.columns, onValue);
    if ("fault" in row) return row;
    try {
      const encoded = await encodeRow(row, encoder, options);
      kinds[row.kind] += 1;
      return encoded;
    } catch (error) {
      return { fault: faultOf(error, where, encoder.tokenizerError) };
    }
  };
  for (let from = 0; from < chunk.rows.length; from += ROWS_AT_ONCE) {
    const rows = chunk.rows.slice(from, from + ROWS_AT_ONCE);
    const values: unknown[] = [];
    const encoded = await Promise.all(rows.map((raw, i) => encode(raw, (value) => (values[i] = value))));
    for (const [i, row] of encoded.entries()) {
      if (!("fault" in row)) {
        records.add(row);
        columns.addRow(values[i]);
      } else broken.push({ file: chunk.file, at: rows[i]?.at ?? "", ...row.fault });
    }
  }
  return { ...records.chunk(), kinds, broken, columns: columns.counts };
}
