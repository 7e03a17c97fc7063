/** Lines of a text file of any size, one at a time. Only "\n" ends a line: JSON text may hold U+2028 and the like. */
import { QdoraError } from "../formats/error.js";
import { readPieces } from "./file_pieces.js";
import type { RawRow, RowFault } from "./raw_row.js";

export interface Line {
  /** Counted from 1. */
  readonly number: number;
  /** Undefined if the line is not UTF-8; "\r" before "\n" is part of it. */
  readonly text: string | undefined;
}

/** A line longer than this is no row of data. */
export const MAX_LINE_BYTES = 64 * 1024 * 1024;
const NEWLINE = 0x0a;

export const NOT_UTF8: RowFault = { fact: "is not UTF-8 text", hint: "save the file as UTF-8" };

/** Every line, blank ones too; a byte-order mark is dropped. @throws QdoraError for a line over 64 MiB */
export async function* readAllLines(path: string): AsyncGenerator<Line, void, void> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let pieces: Buffer[] = [];
  let pieceBytes = 0;
  let number = 0;
  const finish = (last: Buffer): Line => {
    number += 1;
    const bytes = pieces.length === 0 ? last : Buffer.concat([...pieces, last]);
    pieces = [];
    pieceBytes = 0;
    try {
      // The decoder drops a byte-order mark at the start.
      return { number, text: decoder.decode(bytes) };
    } catch {
      return { number, text: undefined };
    }
  };
  const check = (more: number): void => {
    if (pieceBytes + more <= MAX_LINE_BYTES) return;
    throw new QdoraError(
      `${path}:${number + 1}`,
      `the line is longer than ${MAX_LINE_BYTES} bytes`,
      "put each row on a line of its own",
    );
  };
  for await (const chunk of readPieces(path)) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      check(end - from);
      yield finish(chunk.subarray(from, end));
      from = end + 1;
    }
    if (from < chunk.length) {
      check(chunk.length - from);
      pieces.push(chunk.subarray(from));
      pieceBytes += chunk.length - from;
    }
  }
  if (pieceBytes > 0) yield finish(Buffer.alloc(0));
}

/** A row on each line, as JSONL has it; blank lines are left out. A line that is not UTF-8 is a broken row. */
export async function* readLines(path: string): AsyncGenerator<RawRow, void, void> {
  for await (const { number, text } of readAllLines(path)) {
    if (text === undefined) yield { at: `:${number}`, fault: NOT_UTF8 };
    else if (text.trim() !== "") yield { at: `:${number}`, text };
  }
}
