/** Lines of a text file of any size, one at a time. Only "\n" ends a line: JSON text may hold U+2028 and the like. */
import { createReadStream } from "node:fs";
import { QdoraError } from "../formats/error.js";

export interface Line {
  /** Counted from 1. */
  readonly number: number;
  readonly text: string;
}

/** A line longer than this is no row of data. */
const MAX_LINE_BYTES = 64 * 1024 * 1024;
const NEWLINE = 0x0a;

/**
 * Reads line by line; blank lines are left out, "\r" before "\n" and a byte-order mark are dropped.
 * @throws QdoraError for text that is not UTF-8 and for a line over 64 MiB
 */
export async function* readLines(path: string): AsyncGenerator<Line> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let pieces: Buffer[] = [];
  let pieceBytes = 0;
  let number = 0;
  const finish = (): Line | undefined => {
    number += 1;
    let text: string;
    try {
      // The decoder drops a byte-order mark at the start.
      text = decoder.decode(Buffer.concat(pieces));
    } catch {
      throw new QdoraError(`${path}:${number}`, "is not UTF-8 text", "save the file as UTF-8");
    }
    pieces = [];
    pieceBytes = 0;
    return text.trim() === "" ? undefined : { number, text };
  };
  const keep = (bytes: Buffer): void => {
    pieces.push(bytes);
    pieceBytes += bytes.length;
    if (pieceBytes <= MAX_LINE_BYTES) return;
    throw new QdoraError(
      `${path}:${number + 1}`,
      `the line is longer than ${MAX_LINE_BYTES} bytes`,
      "put each row on a line of its own",
    );
  };
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 18 }) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      keep(chunk.subarray(from, end));
      from = end + 1;
      const line = finish();
      if (line) yield line;
    }
    if (from < chunk.length) keep(chunk.subarray(from));
  }
  if (pieceBytes > 0) {
    const line = finish();
    if (line) yield line;
  }
}
