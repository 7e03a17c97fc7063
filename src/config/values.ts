/** Values as people write them on a command line or in YAML: sizes of memory, lists of names, maps, booleans. */
import { z } from "zod";

const UNIT_BYTES: Readonly<Record<string, number>> = {
  b: 1,
  k: 1e3,
  kb: 1e3,
  m: 1e6,
  mb: 1e6,
  g: 1e9,
  gb: 1e9,
  t: 1e12,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

/** "6GB" or "6G" (decimal), "5.5GiB" (binary), "800 MB" or a plain number of bytes. @returns bytes, or undefined if it is none of these */
export function parseBytes(text: string): number | undefined {
  const [, digits, unit] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? [];
  const scale = unit === "" ? 1 : UNIT_BYTES[unit?.toLowerCase() ?? ""];
  const bytes = digits === undefined || scale === undefined ? NaN : Math.floor(Number(digits) * scale);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** Fewer bytes than this, without a unit, are a size whose unit was forgotten. */
const LEAST_BARE_BYTES = 1e6;

/** GPU memory as a person writes it. */
export const parseMemory = (text: string): number | undefined =>
  /^\s*\d+\s*$/.test(text) && Number(text) < LEAST_BARE_BYTES ? undefined : parseBytes(text);

/** Bytes: a number, or a text with a unit. */
export const bytes = z.union([z.int().min(1), z.string()]).transform((value, context) => {
  const parsed = parseMemory(String(value));
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom" });
  return z.NEVER;
});

export const above0 = z.number().gt(0);

/** A number, or "off" for none. */
export const positiveOrOff = z.union([
  above0,
  z.literal("off").transform(() => undefined),
  z
    .string()
    .regex(/^\d+(\.\d+)?$/)
    .transform(Number)
    .pipe(above0),
]);

/** A list of names, or a regular expression over whole module paths. A text of plain names is a list, too. */
export const names = z
  .union([z.array(z.string().min(1)).min(1), z.string().trim().min(1)])
  .transform((value) => {
    if (typeof value !== "string" || value === "all-linear") return value;
    return /^[\w.-]+(\s*,\s*[\w.-]+)*$/.test(value) ? value.split(",").map((name) => name.trim()) : value;
  });

/** How the text after a flag becomes a value. */
export type FlagText = "text" | "number" | "numbers" | "boolean" | "map" | "texts";

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** "q_proj=8,k_proj=4" as an object; undefined if it is not written so. */
function parseMap(text: string): Record<string, number> | undefined {
  const entries = text.split(",").map((part) => {
    const at = part.lastIndexOf("=");
    const number = part.slice(at + 1).trim();
    return at > 0 && NUMBER.test(number) ? ([part.slice(0, at).trim(), Number(number)] as const) : undefined;
  });
  return entries.includes(undefined)
    ? undefined
    : Object.fromEntries(entries.filter((entry) => entry !== undefined));
}

/** "prompt=question,completion=answer" as an object; undefined if it is not written so. */
function parseTexts(text: string): Record<string, string> | undefined {
  const entries = text.split(",").map((part) => {
    const at = part.indexOf("=");
    const [name, value] = [part.slice(0, at).trim(), part.slice(at + 1).trim()];
    return at > 0 && name !== "" && value !== "" ? ([name, value] as const) : undefined;
  });
  const known = entries.filter((entry) => entry !== undefined);
  return known.length < entries.length ? undefined : Object.fromEntries(known);
}

/** "1,0.5" as a list; undefined if it is not written so. */
function parseNumbers(text: string): number[] | undefined {
  const parts = text.split(",").map((part) => part.trim());
  return parts.every((part) => NUMBER.test(part)) ? parts.map(Number) : undefined;
}

/** The value that a flag's text means; a text that means nothing stays as it is, for the schema to refuse. */
export function fromFlagText(text: string, kind: FlagText): unknown {
  switch (kind) {
    case "text":
      return text;
    case "number":
      return NUMBER.test(text) ? Number(text) : text;
    case "boolean":
      return text === "true" ? true : text === "false" ? false : text;
    case "numbers":
      return parseNumbers(text) ?? text;
    case "map":
      return parseMap(text) ?? text;
    case "texts":
      return parseTexts(text) ?? text;
    default:
      return kind satisfies never;
  }
}
