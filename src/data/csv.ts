/** Rows of a CSV or TSV file: the first line names the columns, a field in quotes may hold line ends (RFC 4180). */
import { QdoraError } from "../formats/error.js";
import { LIST_FIELDS, type ColumnMap } from "./columns.js";
import { CsvRecord } from "./csv_record.js";
import { readPieces } from "./file_pieces.js";
import { MAX_LINE_BYTES, NOT_UTF8, readAllLines } from "./lines.js";
import { valueOf, type RawRow, type RowFault } from "./raw_row.js";

const MAX_COLUMNS = 10_000;
const DELIMITERS = [",", ";", "\t"] as const;
const QUOTE_HINT = 'write a quote inside a quoted field as ""';
const TEXT_AFTER_QUOTE: RowFault = { fact: "has text after a closing quote", hint: QUOTE_HINT };
const HEADER_HINT = "the first line names the columns, for instance `prompt,completion`";

/**
 * @param columns says which columns hold lists, written as JSON
 * @throws QdoraError for a header that names no columns or one twice, and for a quote that is never closed
 */
export async function* readCsv(path: string, columns: ColumnMap): AsyncGenerator<RawRow, void, void> {
  const delimiter = await findDelimiter(path);
  let header: readonly string[] | undefined;
  for await (const { at, fields } of readRecords(path, delimiter)) {
    if (header) yield "fact" in fields ? { at, fault: fields } : rowOf(fields, header, at, columns);
    else header = headerOf(fields, `${path}${at}`);
  }
}

interface Fields {
  readonly at: string;
  readonly fields: readonly string[] | RowFault;
}

async function* readRecords(path: string, delimiter: string): AsyncGenerator<Fields, void, void> {
  /** A record whose quoted field goes on in the next line. */
  let open: { readonly record: CsvRecord; readonly number: number; size: number } | undefined;
  const unclosed = (line: number): QdoraError =>
    new QdoraError(`${path}:${line}`, "opens a quote that is never closed", QUOTE_HINT);
  for await (const { number, text } of readAllLines(path)) {
    if (!open && text?.trim() === "") continue;
    open ??= { record: new CsvRecord(delimiter), number, size: 0 };
    const state = text === undefined ? "broken" : open.record.add(text);
    open.size += text?.length ?? 0;
    if (open.size > MAX_LINE_BYTES) throw unclosed(open.number);
    if (state === "open") continue;
    const at = `:${open.number}`;
    if (state === "whole") yield { at, fields: open.record.fields };
    else yield { at, fields: text === undefined ? NOT_UTF8 : TEXT_AFTER_QUOTE };
    open = undefined;
  }
  if (open) throw unclosed(open.number);
}

function headerOf(fields: Fields["fields"], where: string): readonly string[] {
  const refuse = (fact: string): QdoraError => new QdoraError(where, fact, HEADER_HINT);
  if ("fact" in fields) throw refuse(fields.fact);
  const names = fields.map((name) => name.trim());
  if (names.length > MAX_COLUMNS) throw refuse(`has ${names.length} columns (limit ${MAX_COLUMNS})`);
  const seen = new Set<string>();
  for (const name of names) {
    if (name !== "" && seen.has(name)) throw refuse(`names the column ${JSON.stringify(name)} twice`);
    seen.add(name);
  }
  return names;
}

function rowOf(fields: readonly string[], header: readonly string[], at: string, columns: ColumnMap): RawRow {
  const fault = (fact: string, hint: string): RawRow => ({ at, fault: { fact, hint } });
  if (fields.length !== header.length)
    return fault(
      `has ${fields.length} fields where the first line names ${header.length} columns`,
      "put fields that hold commas or line ends in quotes",
    );
  const value: [string, unknown][] = [];
  for (const [i, name] of header.entries()) {
    const text = fields[i] ?? "";
    if (name === "") continue;
    if (!isList(name, columns)) value.push([name, text]);
    else if (text.trim() !== "") {
      const list = listOf(text);
      if (list === undefined)
        return fault(
          `${name} is not a list in JSON`,
          'write for instance [{"role": "user", "content": "…"}]',
        );
      value.push([name, list]);
    }
  }
  return { at, value: Object.fromEntries(value) };
}

function isList(name: string, columns: ColumnMap): boolean {
  const fields = Object.entries(columns);
  if (fields.length === 0) return LIST_FIELDS.has(name);
  return fields.some(([field, column]) => column === name && LIST_FIELDS.has(field));
}

function listOf(text: string): unknown[] | undefined {
  const parsed = valueOf({ at: "", text });
  return "value" in parsed && Array.isArray(parsed.value) ? (parsed.value as unknown[]) : undefined;
}

/** A tab in .tsv; else the one that the first line has most of: spreadsheets of many countries write ";". */
async function findDelimiter(path: string): Promise<string> {
  if (path.toLowerCase().endsWith(".tsv")) return "\t";
  for await (const piece of readPieces(path)) {
    const [line = ""] = piece
      .toString("latin1")
      .replaceAll(/"[^"]*"/g, "")
      .split("\n", 1);
    const count = (delimiter: string): number => line.split(delimiter).length;
    return DELIMITERS.reduce<string>((best, one) => (count(one) > count(best) ? one : best), ",");
  }
  return ",";
}
