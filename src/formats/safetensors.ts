/**
 * safetensors files: an 8-byte little-endian length, a JSON header, the data. Stricter than `JSON.parse` in the header,
 * and as strict as the official reader about offsets: every byte belongs to exactly one tensor.
 */
import type { FileHandle } from "node:fs/promises";
import { QdoraError } from "./error.js";
import { openFile, readBytes, writeAtomically, type OpenFile } from "./files.js";
import { decodeUtf8, isObject, parseStrictJson, quoted, shownJson } from "./json.js";

export interface TensorEntry {
  readonly name: string;
  /** Path of the file that holds it. */
  readonly file: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Counted from the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** Bytes per element; in the official library's order, by which files are sorted. */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

const DTYPES = Object.keys(DTYPE_BYTES);
const isDtype = (value: unknown): value is Dtype => typeof value === "string" && DTYPES.includes(value);

/** The official library's limit. */
const MAX_HEADER_BYTES = 100_000_000;
const DAMAGED = "the file is damaged or cut; download it again";
const NOT_SAFETENSORS = "use a model or adapter saved as safetensors";

/** Bytes of a tensor, or undefined if that goes beyond 2^53 on the way. */
export function tensorBytes(shape: readonly number[], dtype: Dtype): number | undefined {
  let bytes: number = DTYPE_BYTES[dtype];
  for (const n of shape) {
    bytes *= n;
    if (!Number.isSafeInteger(bytes)) return undefined;
  }
  return bytes;
}

/** Reads and checks a file's header. @throws QdoraError naming the file, and the tensor where there is one */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  const file = await openFile(path);
  try {
    return await readOpenHeader(file);
  } finally {
    await file.handle.close();
  }
}

/** The same for a file that is open and stays so. */
export async function readOpenHeader(file: OpenFile): Promise<SafetensorsHeader> {
  const start = await readBytes(file, 0, Math.min(file.size, 32));
  const headerBytes = headerLength(file, start);
  return parseHeader(file, await readBytes(file, 8, headerBytes));
}

/** A file as far as its header is checked against it, wherever its bytes are. */
export interface HeaderFile {
  readonly path: string;
  /** Bytes of the whole file. */
  readonly size: number;
}

/**
 * The bytes of the header that follow the first 8 of the file, checked against limits and the file's size.
 * @param start the file's first 8 bytes; up to 32 tell other formats better
 * @throws QdoraError naming the file
 */
export function headerLength({ path, size }: HeaderFile, start: Uint8Array): number {
  if (isPickleName(path)) throw pickleError(path);
  if (size < 8) throw new QdoraError(path, `is no safetensors file: it has only ${size} bytes`, DAMAGED);
  const length = new DataView(start.buffer, start.byteOffset, start.byteLength).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) throw otherFormatError(path, start, length);
  const headerBytes = Number(length);
  if (headerBytes > size - 8)
    throw new QdoraError(
      path,
      `its header would have ${headerBytes} bytes, but the file has ${size}`,
      DAMAGED,
    );
  return headerBytes;
}

/**
 * Checks a header as strictly as the whole file allows.
 * @param bytes the `headerLength` bytes that follow the first 8
 * @throws QdoraError naming the file, and the tensor where there is one
 */
export function parseHeader(file: HeaderFile, bytes: Uint8Array): SafetensorsHeader {
  const where = `${file.path}: header`;
  const text = decodeUtf8(bytes, where);
  if (!text.startsWith("{")) throw new QdoraError(where, "does not start with {", NOT_SAFETENSORS);
  const header = parseStrictJson(text, where);
  if (!isObject(header)) throw new QdoraError(where, "is not a JSON object", DAMAGED);
  const { __metadata__: metadata, ...entries } = header;
  const dataStart = 8 + bytes.byteLength;
  const tensors = new Map(
    Object.entries(entries).map(([name, entry]) => [name, readEntry(file, name, entry, dataStart)] as const),
  );
  checkCover(file, [...tensors.values()], dataStart);
  return { tensors, metadata: readMetadata(metadata, where) };
}

/** Whether a file's name is one that torch.save is used with. */
export const isPickleName = (name: string): boolean => /\.(bin|pt|pth|ckpt|pkl|pickle)$/i.test(name);

const pickleError = (path: string): QdoraError =>
  new QdoraError(path, "is a pickle, which can run code and is never opened", NOT_SAFETENSORS);

/** Says what a file is whose first bytes, read as a header length, make no sense. */
function otherFormatError(path: string, start: Uint8Array, length: bigint): QdoraError {
  const head = Buffer.from(start).toString("latin1");
  if (head.startsWith("version https://git-lfs"))
    return new QdoraError(
      path,
      "is a Git LFS pointer, not the file itself",
      "run `git lfs pull` in its folder",
    );
  if (head.startsWith("GGUF")) return new QdoraError(path, "is a GGUF file", NOT_SAFETENSORS);
  if (/^\s*<(!doctype|html)/i.test(head))
    return new QdoraError(path, "is a web page, not a safetensors file", "download the file again");
  // torch.save writes a zip archive, or before version 1.6 a bare pickle of protocol 2.
  if (head.startsWith("PK\u0003\u0004") || head.startsWith("\u0080\u0002")) return pickleError(path);
  return new QdoraError(
    path,
    `its header would have ${length} bytes (limit ${MAX_HEADER_BYTES})`,
    NOT_SAFETENSORS,
  );
}

function readMetadata(value: unknown, where: string): Readonly<Record<string, string>> {
  if (value === undefined) return {};
  const isText = (e: readonly [string, unknown]): e is [string, string] => typeof e[1] === "string";
  const entries = isObject(value) ? Object.entries(value) : undefined;
  if (!entries?.every(isText))
    throw new QdoraError(where, "__metadata__ is not a map of texts to texts", DAMAGED);
  return Object.fromEntries(entries);
}

const areCounts = (value: unknown): value is readonly number[] =>
  Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && Number(n) >= 0);

/** @param dataStart where the offsets are counted from */
function readEntry(file: HeaderFile, name: string, entry: unknown, dataStart: number): TensorEntry {
  const refuse = (fact: string): never => {
    throw new QdoraError(file.path, `tensor ${quoted(name)}: ${fact}`, DAMAGED);
  };
  if (!isObject(entry)) return refuse("is described by something that is no object");
  const { dtype, shape, data_offsets: offsets, ...rest } = entry;
  const [extra] = Object.keys(rest);
  if (extra !== undefined) return refuse(`has the unknown field ${quoted(extra)}`);
  if (!isDtype(dtype)) return refuse(`has dtype ${shownJson(dtype)} (supported: ${DTYPES.join(", ")})`);
  if (!areCounts(shape)) return refuse("shape is not a list of integers of 0 or more");
  if (!areCounts(offsets) || offsets.length !== 2)
    return refuse("data_offsets are not two integers of 0 or more");
  const [begin = 0, end = 0] = offsets;
  const dataBytes = file.size - dataStart;
  if (begin > end || end > dataBytes)
    return refuse(`data_offsets [${begin}, ${end}] do not lie in the ${dataBytes} bytes of data`);
  const bytes = tensorBytes(shape, dtype);
  if (bytes !== end - begin)
    return refuse(
      `data_offsets span ${end - begin} bytes, ${dtype} [${shape.join(", ")}] needs ${bytes ?? "too many"}`,
    );
  return { name, file: file.path, dtype, shape, byteOffset: dataStart + begin, byteLength: bytes };
}

/** The tensors must follow each other without a gap or an overlap, from the first byte of data to the last. */
function checkCover(file: HeaderFile, entries: readonly TensorEntry[], dataStart: number): void {
  let at = dataStart;
  for (const e of entries.toSorted((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength)) {
    if (e.byteOffset !== at) {
      const fault =
        e.byteOffset < at
          ? "overlaps the tensor before it"
          : `leaves a hole of ${e.byteOffset - at} bytes before it`;
      throw new QdoraError(file.path, `tensor ${quoted(e.name)} ${fault}`, DAMAGED);
    }
    at += e.byteLength;
  }
  if (at !== file.size)
    throw new QdoraError(file.path, `has ${file.size - at} bytes after its last tensor`, DAMAGED);
}

export interface TensorToWrite {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Little-endian elements, row by row. */
  readonly data: ArrayBufferView;
}

/** The order of UTF-8 bytes, as the official library sorts names. */
const byUtf8 = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

interface Described {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** The order of the official library: larger dtypes first, then by name. So every tensor starts at a multiple of its element. */
export function sortedForFile<T extends Described>(
  tensors: Iterable<readonly [string, T]>,
): (readonly [string, T])[] {
  return [...tensors].toSorted(
    ([a, { dtype: x }], [b, { dtype: y }]) => DTYPES.indexOf(y) - DTYPES.indexOf(x) || byUtf8(a, b),
  );
}

/**
 * The start of a file: the header's length and text, padded with spaces to 8 bytes.
 * @param tensors in the order of their data
 * @param leastBytes more spaces, up to this length in all (a multiple of 8)
 */
export function renderHeader(
  tensors: Iterable<readonly [string, Described]>,
  metadata?: Readonly<Record<string, string>>,
  leastBytes = 0,
): Uint8Array {
  const parts: string[] = [];
  if (metadata) {
    const texts = Object.entries(metadata).toSorted(([a], [b]) => byUtf8(a, b));
    parts.push(`"__metadata__":${JSON.stringify(Object.fromEntries(texts))}`);
  }
  let at = 0;
  for (const [name, { dtype, shape }] of tensors) {
    const bytes = tensorBytes(shape, dtype);
    if (name === "__metadata__" || bytes === undefined)
      throw new Error(`${name}: ${dtype} [${shape.join(", ")}] cannot be written`);
    parts.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [at, at + bytes] })}`);
    at += bytes;
  }
  const json = Buffer.from(`{${parts.join(",")}}`);
  const header = Buffer.alloc(Math.max(leastBytes, 8 + Math.ceil(json.length / 8) * 8), " ");
  header.writeBigUInt64LE(BigInt(header.length - 8));
  header.set(json, 8);
  return header;
}

/**
 * Writes the bytes that `safetensors.torch.save_file` would write. The file appears whole or not at all.
 * @throws QdoraError if it cannot be written
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, TensorToWrite>,
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const sorted = sortedForFile(tensors);
  for (const [name, { dtype, shape, data }] of sorted) {
    if (tensorBytes(shape, dtype) !== data.byteLength)
      throw new Error(`${name}: ${data.byteLength} bytes of data for ${dtype} [${shape.join(", ")}]`);
  }
  const header = renderHeader(sorted, metadata);
  await writeAtomically(path, (handle) =>
    writeAll(
      handle,
      header,
      sorted.map(([, t]) => t.data),
    ),
  );
}

async function writeAll(
  handle: FileHandle,
  header: Uint8Array,
  data: readonly ArrayBufferView[],
): Promise<void> {
  await handle.writeFile(header);
  for (const { buffer, byteOffset, byteLength } of data)
    await handle.writeFile(new Uint8Array(buffer, byteOffset, byteLength));
}
