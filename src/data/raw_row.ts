/** A row before its shape is known, as a reader hands it over: a text, a value, or the reason why it is broken. */
import { describe } from "./messages.js";
import { nestingDepth } from "./json_depth.js";

/** Where in its file a row stands, as messages write it after the path: ":17" (a line) or ": row 3". */
export type RowPlace = string;

export interface RowFault {
  readonly fact: string;
  readonly hint: string;
}

export type RawRow = { readonly at: RowPlace } & (
  | { readonly text: string }
  | { readonly value: unknown }
  | { readonly fault: RowFault }
);

/** A row that was left out, and why. */
export interface BrokenRow extends RowFault {
  /** Index among the files of its part. */
  readonly file: number;
  readonly at: RowPlace;
}

/** Rows nest three or four levels deep; tools may have schemas of ten. */
const MAX_DEPTH = 64;

/** The value of a row, or why there is none. */
export function valueOf(row: RawRow): { readonly value: unknown } | { readonly fault: RowFault } {
  if (!("text" in row)) return row;
  if (nestingDepth(row.text, MAX_DEPTH) > MAX_DEPTH)
    return { fault: { fact: `is nested deeper than ${MAX_DEPTH} levels`, hint: "is this a row of data?" } };
  try {
    return { value: JSON.parse(row.text) as unknown };
  } catch (error) {
    const reason = (error as Error).message.replaceAll(/[\s\p{C}]+/gu, " ").slice(0, 120);
    return { fault: { fact: `is not JSON (${reason})`, hint: "write one JSON object on each line" } };
  }
}

/** The names of a row's columns, for display. */
export const columnsOf = (value: unknown): readonly string[] =>
  describe(value) === "an object" ? Object.keys(value as object) : [];
