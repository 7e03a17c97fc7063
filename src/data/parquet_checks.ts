/** What a Parquet file claims about itself, checked before anything of that size is allocated. */
import type { AsyncBuffer, FileMetaData, RowGroup } from "hyparquet";
import { parquetHeader } from "hyparquet/src/column.js";
import { QdoraError } from "../formats/error.js";

const MAX_ROWS = 2 ** 32;
/** Values of one column in one row group; a list counts its elements. */
const MAX_GROUP_VALUES = 2 ** 28;
const MAX_CHUNK_BYTES = 2 ** 30;
const MAX_PAGE_BYTES = 2 ** 28;

const refuse = (path: string, fact: string): QdoraError =>
  new QdoraError(path, fact, "write the file again with smaller row groups, or download it again");

/** @throws QdoraError for counts and places that cannot be */
export function checkRowGroups(metadata: FileMetaData, path: string, fileBytes: number): void {
  let rows = 0;
  for (const [g, group] of metadata.row_groups.entries()) {
    const count = Number(group.num_rows);
    if (!(count >= 0 && (rows += count) <= MAX_ROWS))
      throw refuse(path, `row group ${g} names ${count} rows`);
    for (const { meta_data: column, file_path: other } of group.columns) {
      if (!column) throw refuse(path, `row group ${g} has a column without metadata`);
      const name = JSON.stringify(column.path_in_schema.join(".").slice(0, 60));
      if (other) throw refuse(path, `column ${name} lies in another file`);
      const [start, bytes, values] = [
        chunkStart(column),
        Number(column.total_compressed_size),
        Number(column.num_values),
      ];
      if (!(start >= 0 && bytes >= 0 && start + bytes <= fileBytes))
        throw refuse(path, `column ${name} of row group ${g} lies outside the file`);
      if (bytes > MAX_CHUNK_BYTES || !(values >= 0 && values <= MAX_GROUP_VALUES))
        throw refuse(
          path,
          `row group ${g} is too large: ${values} values in ${bytes} bytes of column ${name}`,
        );
    }
  }
  if (rows !== Number(metadata.num_rows))
    throw refuse(path, `names ${Number(metadata.num_rows)} rows, and its row groups hold ${rows}`);
}

type ColumnMetaData = NonNullable<RowGroup["columns"][number]["meta_data"]>;

const chunkStart = (column: ColumnMetaData): number =>
  Number(column.dictionary_page_offset || column.data_page_offset);

/** Walks the page headers of a row group. @throws QdoraError for pages that claim more than their column chunk */
export async function checkPages(
  file: AsyncBuffer,
  group: RowGroup,
  wanted: ReadonlySet<string>,
  path: string,
): Promise<void> {
  for (const { meta_data: column } of group.columns) {
    if (!column || !wanted.has(column.path_in_schema[0] ?? "")) continue;
    const start = chunkStart(column);
    const bytes = await file.slice(start, start + Number(column.total_compressed_size));
    const reader = { view: new DataView(bytes), offset: 0 };
    const limit = Number(column.num_values);
    let values = 0;
    while (reader.offset < bytes.byteLength - 1) {
      const header = parquetHeader(reader);
      const { compressed_page_size: packed, uncompressed_page_size: size } = header;
      const inDictionary = header.dictionary_page_header?.num_values ?? 0;
      const inPage = header.data_page_header?.num_values ?? header.data_page_header_v2?.num_values ?? 0;
      values += inPage;
      const fits =
        packed >= 0 &&
        reader.offset + packed <= bytes.byteLength &&
        size >= 0 &&
        size <= MAX_PAGE_BYTES &&
        inPage >= 0 &&
        values <= limit &&
        inDictionary >= 0 &&
        inDictionary <= size + 1;
      if (!fits)
        throw refuse(
          path,
          `column ${JSON.stringify(column.path_in_schema.join(".").slice(0, 60))} has a page of impossible size`,
        );
      reader.offset += packed;
    }
  }
}
