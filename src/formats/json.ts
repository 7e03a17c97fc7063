/** JSON from outside: files of bounded size, and a stricter reading for texts whose numbers are offsets. */
import { QdoraError } from "./error.js";
import { openFile, readBytes } from "./files.js";

/** A JSON value as an object. */
export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Text from outside for a message: quoted, without control characters, not too long. */
export const quoted = (text: string): string =>
  JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);

/** A value of parsed JSON for a message, not too long. */
export const shownJson = (value: unknown): string =>
  typeof value === "string" ? quoted(value) : (JSON.stringify(value) ?? "nothing").slice(0, 120);

/** @throws QdoraError naming `where` if the bytes are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new QdoraError(where, "is not UTF-8 text", "the file is damaged; download it again", { cause });
  }
}

/** A UTF-8 file of at most `maxBytes`. @throws QdoraError naming the file */
export async function readTextFile(path: string, maxBytes: number): Promise<string> {
  const file = await openFile(path);
  try {
    if (file.size > maxBytes)
      throw new QdoraError(
        path,
        `is too large, got ${file.size} bytes (limit ${maxBytes})`,
        "is this the right file?",
      );
    return decodeUtf8(await readBytes(file, 0, file.size), path);
  } finally {
    await file.handle.close();
  }
}

/** Reads JSON by the usual rules. @throws QdoraError with `where` as its area */
export function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const [reason = ""] = cause instanceof Error ? cause.message.split("\n") : [];
    const fact = text.trim() === "" ? "is empty" : `is not valid JSON (${reason.slice(0, 200)})`;
    throw new QdoraError(where, fact, "mend the file, or download it again", { cause });
  }
}

/** Reads a JSON file of at most `maxBytes`, by the usual rules. @throws QdoraError naming the file */
export async function readJsonFile(path: string, maxBytes: number): Promise<unknown> {
  return parseJson(await readTextFile(path, maxBytes), path);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The index of the quote that ends the string which starts at `from`. */
export function stringEnd(text: string, from: number): number {
  let i = from + 1;
  while (text.charCodeAt(i) !== QUOTE) i += text.charCodeAt(i) === BACKSLASH ? 2 : 1;
  return i;
}

/**
 * Reads JSON and refuses what `JSON.parse` would quietly change: doubled keys (it keeps the last) and integers beyond
 * 2^53 (it rounds them).
 * @param numbers "integers" also refuses numbers written as 1.0, 1e3 or -0
 * @throws QdoraError with `where` as its area
 */
export function parseStrictJson(
  text: string,
  where: string,
  numbers: "integers" | "any" = "integers",
): unknown {
  const value = parseJson(text, where);
  // The text is valid JSON from here on, so that tokens can be told by their first character.
  const keys: (Set<string> | undefined)[] = [];
  const number = /-?[0-9.eE+-]+/y;
  let key: string | undefined;
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? "";
    if (c === "{") keys.push(new Set());
    else if (c === "[") keys.push(undefined);
    else if (c === "}" || c === "]") keys.pop();
    else if (c === '"') {
      const end = stringEnd(text, i);
      key = text.slice(i, end + 1);
      i = end;
    } else if (c === ":") {
      const name = String(JSON.parse(key ?? '""'));
      const seen = keys.at(-1);
      if (seen?.has(name))
        throw new QdoraError(
          where,
          `has the key ${quoted(name)} twice`,
          "the file is damaged; download it again",
        );
      seen?.add(name);
    } else if (c === "-" || (c >= "0" && c <= "9")) {
      number.lastIndex = i;
      const word = number.exec(text)?.[0] ?? c;
      checkNumber(word, where, numbers);
      i += word.length - 1;
    }
  }
  return value;
}

function checkNumber(word: string, where: string, numbers: "integers" | "any"): void {
  const isInteger = /^-?[0-9]+$/.test(word) && word !== "-0";
  if (isInteger && !Number.isSafeInteger(Number(word)))
    throw new QdoraError(where, `has the number ${word.slice(0, 40)}, which is beyond 2^53`);
  if (!isInteger && numbers === "integers")
    throw new QdoraError(where, `has the number ${word.slice(0, 40)} where an integer is needed`);
}
