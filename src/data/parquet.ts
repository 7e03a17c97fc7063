/** Rows of a local Parquet file, a row group (or a part of a large one) at a time, with only the columns that are needed. */
import {
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type AsyncBuffer,
  type FileMetaData,
} from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { QdoraError } from "../formats/error.js";
import { openFile, readBytes, type OpenFile } from "../formats/files.js";
import { FIELDS, type ColumnMap } from "./columns.js";
import { checkPages, checkRowGroups } from "./parquet_checks.js";
import type { RawRow } from "./raw_row.js";

/** What is decoded at a time: rows become JavaScript objects, which take a multiple of these bytes. */
const STEP_ROWS = 65_536;
const STEP_BYTES = 32 * 1024 * 1024;

/** @throws QdoraError for a file that is damaged, or whose columns are none of a row's */
export async function* readParquet(path: string, columns: ColumnMap): AsyncGenerator<RawRow, void, void> {
  const source = await openFile(path);
  try {
    const file = bufferOf(source);
    const metadata = await guarded(path, () => parquetMetadataAsync(file));
    checkRowGroups(metadata, path, source.size);
    const wanted = wantedColumns(metadata, path, columns);
    let first = 0;
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows);
      await guarded(path, () => checkPages(file, group, new Set(wanted), path));
      const bytes = Math.max(1, Number(group.total_byte_size));
      const step = Math.max(1, Math.min(STEP_ROWS, Math.floor((rows * STEP_BYTES) / bytes)));
      for (let from = 0; from < rows; from += step) {
        const rowStart = first + from;
        const rowEnd = first + Math.min(rows, from + step);
        const objects = await guarded(path, () =>
          parquetReadObjects({ file, metadata, columns: [...wanted], rowStart, rowEnd, compressors }),
        );
        if (objects.length !== rowEnd - rowStart)
          throw damaged(path, `has ${objects.length} rows where its metadata names ${rowEnd - rowStart}`);
        for (const [i, row] of objects.entries())
          yield { at: `: row ${rowStart + i + 1}`, value: plain(row) };
      }
      first += rows;
    }
  } finally {
    await source.handle.close();
  }
}

/** The names of all columns. */
const parquetColumns = (metadata: FileMetaData): readonly string[] =>
  parquetSchema(metadata).children.map((child) => child.element.name);

function wantedColumns(metadata: FileMetaData, path: string, columns: ColumnMap): readonly string[] {
  const all = parquetColumns(metadata);
  const asked = Object.values(columns);
  const missing = asked.find((name) => !all.includes(name));
  const listed = all.slice(0, 8).map((name) => JSON.stringify(name.slice(0, 40)));
  if (missing !== undefined)
    throw new QdoraError(
      path,
      `has no column ${JSON.stringify(missing)}; its columns are ${listed.join(", ")}`,
      "mend `columns`",
    );
  const wanted = asked.length > 0 ? asked : all.filter((name) => FIELDS.some((field) => field === name));
  if (wanted.length > 0) return [...new Set(wanted)];
  throw new QdoraError(
    path,
    `none of its columns is a field of a row: ${listed.join(", ")}`,
    "say which column is which with `columns`, for instance --columns prompt=question,completion=answer",
  );
}

const damaged = (path: string, fact: string, cause?: unknown): QdoraError =>
  new QdoraError(path, fact, "the file is damaged; make or download it again", { cause });

async function guarded<T>(path: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (error instanceof QdoraError) throw error;
    const reason = (error instanceof Error ? error.message : String(error)).replaceAll(/\s+/g, " ");
    throw damaged(path, `cannot be read as Parquet (${reason.slice(0, 160)})`, error);
  }
}

function bufferOf(source: OpenFile): AsyncBuffer {
  return {
    byteLength: source.size,
    slice: async (start, end = source.size) => {
      if (!(start >= 0 && start <= end && end <= source.size))
        throw new Error(`bytes ${start} to ${end} are outside the file`);
      const bytes = await readBytes(source, start, end - start);
      return bytes.buffer as ArrayBuffer;
    },
  };
}

/** Values as JSON would have them: integers are numbers, bytes and dates are not taken apart. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value.toString();
  }
  if (typeof value !== "object" || value === null || value instanceof Date) return value;
  if (ArrayBuffer.isView(value)) return isBytes(value) ? value : Array.from(value as Int32Array, plain);
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

const isBytes = (value: ArrayBufferView): value is Uint8Array => value instanceof Uint8Array;
