/**
 * How a file of rows as tokens is laid out: records end to end; tables of their ends (f64), lengths (u32), scored labels
 * (u32) and flags (u8); a summary in JSON; a trailer with the sizes of all that and the sha256 of everything before the hash.
 */
import type { ColumnCounts } from "./column_counts.js";
import type { KindCounts } from "./encode_chunk.js";
import type { BrokenRow } from "./raw_row.js";

/** Changed with the layout: older files are made again. */
export const TOKEN_FILE_VERSION = 2;
const MAGIC = 0x4e4b_5451; // "QTKN"
const HASH_BYTES = 32;
export const TRAILER_BYTES = 32 + HASH_BYTES;
/** Bytes of a row in the tables. */
const ROW_BYTES = 8 + 4 + 4 + 1;

export interface TokenSummary {
  readonly kinds: KindCounts;
  readonly columns: ColumnCounts;
  readonly brokenCount: number;
  /** The first of the rows that were left out. */
  readonly broken: readonly BrokenRow[];
}

export interface Trailer {
  readonly rows: number;
  readonly recordBytes: number;
  readonly summaryBytes: number;
  readonly width: 2 | 4;
}

/** Bytes of a whole file. */
export const fileBytes = (t: Trailer): number =>
  t.recordBytes + t.rows * ROW_BYTES + t.summaryBytes + TRAILER_BYTES;

/** The trailer without its hash. */
export function trailerHead(trailer: Trailer): Uint8Array {
  const view = new DataView(new ArrayBuffer(TRAILER_BYTES - HASH_BYTES));
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, TOKEN_FILE_VERSION, true);
  view.setUint16(6, trailer.width, true);
  view.setFloat64(8, trailer.rows, true);
  view.setFloat64(16, trailer.recordBytes, true);
  view.setFloat64(24, trailer.summaryBytes, true);
  return new Uint8Array(view.buffer);
}

/** @returns undefined if the bytes are no trailer of a file of this size */
export function readTrailer(
  bytes: Uint8Array,
  fileSize: number,
): (Trailer & { readonly hash: Uint8Array }) | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length !== TRAILER_BYTES || view.getUint32(0, true) !== MAGIC) return undefined;
  const width = view.getUint16(6, true);
  const sizes = [view.getFloat64(8, true), view.getFloat64(16, true), view.getFloat64(24, true)];
  const [rows = 0, recordBytes = 0, summaryBytes = 0] = sizes;
  if (view.getUint16(4, true) !== TOKEN_FILE_VERSION || (width !== 2 && width !== 4)) return undefined;
  if (!sizes.every((size) => Number.isSafeInteger(size) && size >= 0)) return undefined;
  const trailer = { rows, recordBytes, summaryBytes, width } as const;
  return fileBytes(trailer) === fileSize ? { ...trailer, hash: bytes.subarray(-HASH_BYTES) } : undefined;
}
