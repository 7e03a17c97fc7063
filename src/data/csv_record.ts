/** One CSV record (RFC 4180), line by line. A quote that does not begin a field stands for itself, as in Python's reader. */

/** What a record is after a line: its fields are all there, a quoted field goes on in the next line, or it is broken. */
export type RecordState = "whole" | "open" | "broken";

export class CsvRecord {
  readonly fields: string[] = [];
  /** Lines of the quoted field that is open. */
  #open: string[] | undefined;
  readonly #delimiter: string;

  constructor(delimiter: string) {
    this.#delimiter = delimiter;
  }

  /** @param line without its line end */
  add(line: string): RecordState {
    let from = 0;
    if (this.#open) {
      const end = closingQuote(line, 0);
      this.#open.push(end < 0 ? line : line.slice(0, end));
      if (end < 0) return "open";
      this.#close(this.#open);
      if (isLineEnd(line, end + 1)) return "whole";
      if (line[end + 1] !== this.#delimiter) return "broken";
      from = end + 2;
    }
    for (;;) {
      if (line[from] !== '"') {
        const end = line.indexOf(this.#delimiter, from);
        this.fields.push(end < 0 ? line.slice(from).replace(/\r$/, "") : line.slice(from, end));
        if (end < 0) return "whole";
        from = end + 1;
        continue;
      }
      const end = closingQuote(line, from + 1);
      if (end < 0) {
        this.#open = [line.slice(from + 1)];
        return "open";
      }
      this.#close([line.slice(from + 1, end)]);
      if (isLineEnd(line, end + 1)) return "whole";
      if (line[end + 1] !== this.#delimiter) return "broken";
      from = end + 2;
    }
  }

  #close(lines: readonly string[]): void {
    this.fields.push(lines.join("\n").replaceAll('""', '"'));
    this.#open = undefined;
  }
}

const isLineEnd = (line: string, at: number): boolean =>
  at >= line.length || (at === line.length - 1 && line[at] === "\r");

/** The index of the quote, at or after `from`, that ends a quoted field; -1 if there is none. */
function closingQuote(line: string, from: number): number {
  let end = line.indexOf('"', from);
  while (end >= 0 && line[end + 1] === '"') end = line.indexOf('"', end + 2);
  return end;
}
