/** What `data` names: files, folders and hub data sets, each with a split, a slice and a weight. */
import { existsSync } from "node:fs";
import { QdoraError } from "../formats/error.js";

/** One source, written `PATH`, `PATH:SPLIT`, `PATH[FROM:TO]` or `PATH:SPLIT[FROM:TO]`. */
export interface DataSource {
  readonly path: string;
  /** The split whose rows are trained on; undefined: train, with the folder's held-out rows beside it. */
  readonly split: string | undefined;
  /** Rows from `from` up to, and without, `to`. */
  readonly from: number;
  readonly to: number;
  /** Times that each row counts in an epoch; below 1: the part of the rows that is used. */
  readonly weight: number;
}

const MAX_ROW = 2 ** 32;

const usage = (area: string, fact: string, hint: string): QdoraError =>
  new QdoraError(area, fact, hint, { exitCode: 2 });

/**
 * @param data one text or a list; in one text, commas part the sources unless a file is called so
 * @param weights one for each source; all 1 if left out
 * @throws QdoraError (exit 2) for a slice that is none, or another number of weights
 */
export function parseSources(
  data: string | readonly string[],
  weights?: readonly number[],
): readonly DataSource[] {
  const isOne = typeof data === "string" && (!data.includes(",") || existsSync(data));
  const texts = typeof data !== "string" ? data : isOne ? [data] : data.split(",").map((part) => part.trim());
  if (texts.length === 0 || texts.includes(""))
    throw usage("data", "names an empty source", "write PATH, or PATH,PATH,…");
  if (weights && weights.length !== texts.length)
    throw usage(
      "data_weights",
      `has ${weights.length} numbers for ${texts.length} sources of data`,
      "give one weight for each source, in the same order",
    );
  return texts.map((text, i) => ({ ...parseSource(text), weight: weights?.[i] ?? 1 }));
}

function parseSource(text: string): Omit<DataSource, "weight"> {
  const whole = { split: undefined, from: 0, to: MAX_ROW };
  if (existsSync(text)) return { path: text, ...whole };
  const [, named = text, slice] = /^(.*)\[([^[\]]*)\]$/s.exec(text) ?? [];
  const range = slice === undefined ? whole : parseSlice(slice, text);
  const [, path = named, split] = existsSync(named) ? [] : (/^(.{2,}):([\w.-]*)$/s.exec(named) ?? []);
  if (path === "") throw usage("data", `${JSON.stringify(text)} names no file`, "write PATH:SPLIT[FROM:TO]");
  return { path, split: split || undefined, from: range.from, to: range.to };
}

function parseSlice(slice: string, text: string): { readonly from: number; readonly to: number } {
  const [, first, last] = /^\s*(\d*)\s*:\s*(\d*)\s*$/.exec(slice) ?? [];
  const from = Number(first || "0");
  const to = last ? Number(last) : MAX_ROW;
  if (first !== undefined && from < to && to <= MAX_ROW) return { from, to };
  throw usage(
    "data",
    `[${slice.slice(0, 40)}] of ${text.slice(0, 120)} is not a slice of rows`,
    "write [FROM:TO] with row numbers from 0, for instance [:1000] or [1000:2000]",
  );
}

/** The source as it was written, without its weight. */
export function sourceName(source: DataSource): string {
  const { path, split, from, to } = source;
  const slice = from === 0 && to === MAX_ROW ? "" : `[${from || ""}:${to === MAX_ROW ? "" : to}]`;
  return `${path}${split === undefined ? "" : `:${split}`}${slice}`;
}

/** What to say of a source without rows; with a slice, its file may have some before it. */
export function noRows(name: string, from: number, to: number): QdoraError {
  if (from === 0) return new QdoraError("data", `${name} has no rows`, "add rows, or name another file");
  const slice = `[${from}:${to === MAX_ROW ? "" : to}]`;
  const place = name.endsWith(slice) ? name : `${name}${slice}`;
  return new QdoraError(
    "data",
    `${place} has no rows`,
    "the slice begins after the last row; rows are counted from 0",
  );
}
