/** The fields that rows may have, and `columns`: which column of the data stands for which field. */
import { QdoraError } from "../formats/error.js";

/** Field -> column of the data. */
export type ColumnMap = Readonly<Record<string, string>>;

/** Every field of every shape. */
export const FIELDS = [
  "text",
  "prompt",
  "completion",
  "messages",
  "conversations",
  "instruction",
  "input",
  "output",
  "system",
  "history",
  "tools",
  "input_ids",
  "labels",
] as const;

/** Fields that hold lists; where a file knows texts only (CSV), they are written as JSON. */
export const LIST_FIELDS: ReadonlySet<string> = new Set([
  "messages",
  "conversations",
  "history",
  "tools",
  "input_ids",
  "labels",
]);

/** @throws QdoraError (exit 2) for a field that no shape has */
export function checkColumns(columns: ColumnMap): void {
  const unknown = Object.keys(columns).find((field) => !FIELDS.some((known) => known === field));
  if (unknown === undefined) return;
  throw new QdoraError(
    "columns",
    `${JSON.stringify(unknown)} is no field of a row`,
    `write FIELD=COLUMN with one of ${FIELDS.join(", ")}`,
    { exitCode: 2 },
  );
}

/** The row with the fields that `columns` names and no other; every row as it is where nothing is named. */
export function renameColumns(
  value: unknown,
  columns: ColumnMap,
): { readonly value: unknown } | { readonly missing: string } {
  const fields = Object.entries(columns);
  if (fields.length === 0 || typeof value !== "object" || value === null || Array.isArray(value))
    return { value };
  const row = value as Readonly<Record<string, unknown>>;
  const missing = fields.find(([, column]) => !Object.hasOwn(row, column));
  if (missing) return { missing: missing[1] };
  return { value: Object.fromEntries(fields.map(([field, column]) => [field, row[column]])) };
}
