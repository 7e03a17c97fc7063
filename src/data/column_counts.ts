/** Which columns the rows of a source have, and how many rows have each. */
import { columnsOf } from "./raw_row.js";

/** In the order in which columns were met. */
export type ColumnCounts = readonly (readonly [name: string, rows: number])[];

/** Rows of a damaged or strange file may each have names of their own. */
const MOST = 1024;

export class ColumnCounter {
  readonly #rows = new Map<string, number>();

  /** Counts the columns of a row that is used. */
  addRow(value: unknown): void {
    for (const name of columnsOf(value)) this.#add(name, 1);
  }

  /** Adds what was counted elsewhere. */
  add(counts: ColumnCounts): void {
    for (const [name, rows] of counts) this.#add(name, rows);
  }

  get counts(): ColumnCounts {
    return [...this.#rows];
  }

  #add(name: string, rows: number): void {
    const before = this.#rows.get(name);
    if (before !== undefined || this.#rows.size < MOST) this.#rows.set(name, (before ?? 0) + rows);
  }
}
