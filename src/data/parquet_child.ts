/**
 * What runs in the child process that decodes Parquet. Damaged or hostile files can make a decoder loop for very long, or
 * fill the memory; here that ends the child. The function is sent there as text, so it may use nothing but its argument
 * and Node's globals. It answers one request at a time.
 */
import type * as Fs from "node:fs/promises";
import type * as Hyparquet from "hyparquet";
import type { AsyncBuffer, Compressors, FileMetaData, RowGroup, SchemaTree } from "hyparquet";
import type { parquetHeader } from "hyparquet/src/column.js";

export interface ParquetModules {
  readonly hyparquet: typeof Hyparquet;
  readonly parquetHeader: typeof parquetHeader;
  readonly compressors: Compressors;
  readonly fs: typeof Fs;
}

export type ParquetRequest =
  /** Opens a file, instead of the one before. */
  | { readonly open: string }
  /** Reads these columns; the answer has the first rows. */
  | { readonly read: readonly string[] }
  | { readonly next: true };

export type ParquetReply =
  | { readonly columns: readonly string[] }
  /** No rows: the end of the file. */
  | { readonly rows: readonly unknown[] }
  | { readonly fact: string };

/** Serves requests until the parent is gone. */
export function serveParquet({
  hyparquet,
  parquetHeader: readHeader,
  compressors,
  fs,
}: ParquetModules): void {
  const MAX_ROWS = 2 ** 32;
  /** Values of one column in one row group; a list counts its elements. */
  const MAX_GROUP_VALUES = 2 ** 28;
  const MAX_CHUNK_BYTES = 2 ** 30;
  const MAX_PAGE_BYTES = 2 ** 28;
  /** What is decoded at a time: rows become objects, which take a multiple of these bytes. */
  const STEP_ROWS = 65_536;
  const STEP_BYTES = 32 * 1024 * 1024;

  type ColumnMetaData = NonNullable<RowGroup["columns"][number]["meta_data"]>;
  const pathKey = (names: readonly string[]): string => JSON.stringify(names);
  const nameOf = (column: ColumnMetaData): string =>
    JSON.stringify(column.path_in_schema.join(".").slice(0, 60));
  const leavesOf = ({ children, path }: SchemaTree): readonly string[] =>
    children.length === 0 ? [pathKey(path)] : children.flatMap(leavesOf);
  const startOf = (column: ColumnMetaData): number =>
    Number(column.dictionary_page_offset || column.data_page_offset);

  /** Counts and places that the metadata claims. */
  const checkRowGroups = (metadata: FileMetaData, fileBytes: number): void => {
    const leaves = new Set(leavesOf(hyparquet.parquetSchema(metadata)));
    let rows = 0;
    for (const [g, group] of metadata.row_groups.entries()) {
      const count = Number(group.num_rows);
      if (!(count >= 0 && (rows += count) <= MAX_ROWS)) throw new Error(`row group ${g} names ${count} rows`);
      for (const { meta_data: column, file_path: other } of group.columns) {
        if (!column) throw new Error(`row group ${g} has a column without metadata`);
        const [start, bytes] = [startOf(column), Number(column.total_compressed_size)];
        const values = Number(column.num_values);
        if (!leaves.has(pathKey(column.path_in_schema)))
          throw new Error(`column ${nameOf(column)} is not in the schema`);
        if (other) throw new Error(`column ${nameOf(column)} lies in another file`);
        if (!(start >= 0 && bytes >= 0 && start + bytes <= fileBytes))
          throw new Error(`column ${nameOf(column)} lies outside the file`);
        if (bytes > MAX_CHUNK_BYTES || !(values >= 0 && values <= MAX_GROUP_VALUES))
          throw new Error(`row group ${g} is too large: ${values} values in ${bytes} bytes`);
      }
    }
    if (rows !== Number(metadata.num_rows))
      throw new Error(`it names ${Number(metadata.num_rows)} rows, and its row groups hold ${rows}`);
  };

  /** Page headers of a row group: no page may claim more than its column has. */
  const checkPages = async (file: AsyncBuffer, group: RowGroup, wanted: readonly string[]): Promise<void> => {
    for (const { meta_data: column } of group.columns) {
      if (!column || !wanted.includes(column.path_in_schema[0] ?? "")) continue;
      const bytes = await file.slice(startOf(column), startOf(column) + Number(column.total_compressed_size));
      const reader = { view: new DataView(bytes), offset: 0 };
      let values = 0;
      while (reader.offset < bytes.byteLength - 1) {
        const header = readHeader(reader);
        const { compressed_page_size: packed, uncompressed_page_size: size } = header;
        const inDictionary = header.dictionary_page_header?.num_values ?? 0;
        const inPage = header.data_page_header?.num_values ?? header.data_page_header_v2?.num_values ?? 0;
        values += inPage;
        const isSound =
          packed >= 0 &&
          reader.offset + packed <= bytes.byteLength &&
          size >= 0 &&
          size <= MAX_PAGE_BYTES &&
          inPage >= 0 &&
          values <= Number(column.num_values) &&
          inDictionary >= 0 &&
          inDictionary <= size + 1;
        if (!isSound) throw new Error(`column ${nameOf(column)} has a page of impossible size`);
        reader.offset += packed;
      }
    }
  };

  /** Values as JSON would have them: integers are numbers; bytes and dates are not taken apart. */
  const plain = (value: unknown): unknown => {
    if (typeof value === "bigint") {
      const number = Number(value);
      return Number.isSafeInteger(number) ? number : value.toString();
    }
    if (typeof value !== "object" || value === null || value instanceof Date || value instanceof Uint8Array)
      return value;
    if (ArrayBuffer.isView(value)) return Array.from(value as Int32Array, plain);
    if (Array.isArray(value)) return value.map(plain);
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
  };

  const bufferOf = (handle: Fs.FileHandle, size: number): AsyncBuffer => ({
    byteLength: size,
    slice: async (start, end = size) => {
      if (!(start >= 0 && start <= end && end <= size))
        throw new Error(`bytes ${start} to ${end} are outside the file`);
      const bytes = new Uint8Array(end - start);
      for (let done = 0; done < bytes.length;) {
        const { bytesRead } = await handle.read(
          bytes,
          done,
          Math.min(bytes.length - done, 2 ** 30),
          start + done,
        );
        if (bytesRead === 0) throw new Error("the file ends early");
        done += bytesRead;
      }
      return bytes.buffer;
    },
  });

  interface Open {
    readonly handle: Fs.FileHandle;
    readonly file: AsyncBuffer;
    readonly metadata: FileMetaData;
  }
  let current: Open | undefined;
  let steps: AsyncGenerator<readonly unknown[], void, void> | undefined;

  const open = async (path: string): Promise<readonly string[]> => {
    await current?.handle.close();
    current = undefined;
    const handle = await fs.open(path);
    const { size } = await handle.stat();
    const file = bufferOf(handle, size);
    const metadata = await hyparquet.parquetMetadataAsync(file);
    current = { handle, file, metadata };
    checkRowGroups(metadata, size);
    return hyparquet.parquetSchema(metadata).children.map((child) => child.element.name);
  };

  async function* read(
    { file, metadata }: Open,
    columns: readonly string[],
  ): AsyncGenerator<readonly unknown[], void, void> {
    let first = 0;
    for (const group of metadata.row_groups) {
      const rows = Number(group.num_rows);
      await checkPages(file, group, columns);
      const bytes = Math.max(1, Number(group.total_byte_size));
      const step = Math.max(1, Math.min(STEP_ROWS, Math.floor((rows * STEP_BYTES) / bytes)));
      for (let from = 0; from < rows; from += step) {
        const [rowStart, rowEnd] = [first + from, first + Math.min(rows, from + step)];
        const found = await hyparquet.parquetReadObjects({
          file,
          metadata,
          columns: [...columns],
          rowStart,
          rowEnd,
          compressors,
        });
        if (found.length !== rowEnd - rowStart)
          throw new Error(`${found.length} rows where the metadata names ${rowEnd - rowStart}`);
        yield found.map(plain);
      }
      first += rows;
    }
  }

  const answer = async (request: ParquetRequest): Promise<ParquetReply> => {
    try {
      if ("open" in request) return { columns: await open(request.open) };
      if ("read" in request) steps = current && read(current, request.read);
      const step = await steps?.next();
      return { rows: step?.done === false ? step.value : [] };
    } catch (error) {
      return {
        fact: String((error as Error | undefined)?.message)
          .replaceAll(/\s+/g, " ")
          .slice(0, 160),
      };
    }
  };
  // A column that fails while another has failed already leaves a promise that nobody waits for.
  process.on("unhandledRejection", () => undefined);
  process.on(
    "message",
    (request: ParquetRequest) => void answer(request).then((reply) => process.send?.(reply)),
  );
  process.on("disconnect", () => process.exit());
}
