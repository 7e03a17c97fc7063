/** Fields of an item, checked where they are read: an item that is not of its task's shape is named with file and line. */
import { QdoraError } from "../formats/error.js";

/** An item as it was read. `where` is "file:line" for messages. */
export interface TaskRow {
  readonly where: string;
  readonly value: unknown;
}

const kindOf = (value: unknown): string =>
  value === undefined
    ? "missing"
    : value === null
      ? "null"
      : Array.isArray(value)
        ? "a list"
        : typeof value === "object"
          ? "an object"
          : typeof value === "string"
            ? JSON.stringify(value.slice(0, 40))
            : typeof value === "number" || typeof value === "boolean"
              ? String(value)
              : "no JSON value";

export class Fields {
  readonly where: string;
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #shape: string;

  /** @param shape the fields that the task's items have, for hints */
  constructor(row: TaskRow, shape: string) {
    const { where, value } = row;
    this.where = where;
    this.#shape = shape;
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new QdoraError(where, `the item is ${kindOf(value)} instead of an object`, this.#hint());
    this.#values = value as Readonly<Record<string, unknown>>;
  }

  #hint(): string {
    return `items of this task have ${this.#shape}`;
  }

  /** The error for a field that is not what it should be. */
  wrong(key: string, wanted: string): QdoraError {
    return new QdoraError(
      this.where,
      `${key} is ${kindOf(this.#values[key])} instead of ${wanted}`,
      this.#hint(),
    );
  }

  has(key: string): boolean {
    return this.#values[key] != null;
  }

  text(key: string): string {
    const value = this.#values[key];
    if (typeof value !== "string") throw this.wrong(key, "text");
    return value;
  }

  /** A list with at least `least` texts. */
  texts(key: string, least: number): readonly string[] {
    const value = this.#values[key];
    const isList = Array.isArray(value) && value.every((one): one is string => typeof one === "string");
    if (!isList || value.length < least) throw this.wrong(key, `a list of ${least} or more texts`);
    return value;
  }

  object(key: string, shape: string): Fields {
    return new Fields({ where: `${this.where} ${key}`, value: this.#values[key] }, shape);
  }

  flag(key: string): boolean {
    const value = this.#values[key];
    if (typeof value !== "boolean") throw this.wrong(key, "true or false");
    return value;
  }

  /**
   * A whole number from `first` on, also as text, as an index from 0. Splits without answers have -1 or "".
   * @param count how many there are
   */
  index(key: string, first: number, count: number): number {
    const value = this.#values[key];
    const isNumber = typeof value === "number" || (typeof value === "string" && /^\d+$/.test(value));
    const number = isNumber ? Number(value) : NaN;
    if (Number.isInteger(number) && number >= first && number < first + count) return number - first;
    if (value === -1 || value === "" || value === "-1")
      throw new QdoraError(
        this.where,
        `${key} is empty: the item has no answer`,
        "use a split with answers, such as validation",
      );
    throw this.wrong(key, `a number from ${first} to ${first + count - 1}`);
  }

  /** The index of a text among texts. */
  indexAmong(key: string, text: string, among: readonly string[]): number {
    const index = among.indexOf(text);
    if (index < 0)
      throw new QdoraError(
        this.where,
        `${key} is ${JSON.stringify(text.slice(0, 40))}, which none of the choices is called`,
        this.#hint(),
      );
    return index;
  }
}
