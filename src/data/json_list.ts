/**
 * The elements of a JSON list of any size, one at a time and as text: a `.json` file of rows. Only the list's own commas
 * and brackets are understood here; whether an element is JSON is told when it is parsed.
 */
import { QdoraError } from "../formats/error.js";
import { readPieces } from "./file_pieces.js";
import type { RawRow } from "./raw_row.js";

/** An element longer than this is no row of data. */
const MAX_ELEMENT_CHARACTERS = 64 * 1024 * 1024;

/** What may come next in the list. */
type State = "start" | "first" | "element" | "next" | "end";

/** Many `.json` files hold one object on each line; a list starts with "[". */
export async function startsWithList(path: string): Promise<boolean> {
  for await (const piece of readPieces(path)) {
    const text = piece
      .toString("utf8")
      .replace(/^\uFEFF/, "")
      .trimStart();
    if (text !== "") return text.startsWith("[");
  }
  return false;
}

/** @throws QdoraError if the file is not UTF-8, no list, or ends within it */
export async function* readJsonList(path: string): AsyncGenerator<RawRow, void, void> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const broken = (fact: string): QdoraError =>
    new QdoraError(path, fact, "write a list of rows, or one row on each line of a .jsonl file");
  const decode = (bytes?: Uint8Array): string => {
    try {
      return bytes ? decoder.decode(bytes, { stream: true }) : decoder.decode();
    } catch {
      throw broken(`is not UTF-8 text, after row ${rows}`);
    }
  };
  let rows = 0;
  let state: State = "start";
  let [depth, isInText, isEscaped] = [0, false, false];
  /** What has been read of an element. */
  let begun = "";
  /** Steps over one character. @returns true if it ends the element, without being part of it */
  const stepElement = (c: string): boolean => {
    if (isInText) {
      if (isEscaped) isEscaped = false;
      else if (c === "\\") isEscaped = true;
      else if (c === '"') isInText = false;
      return false;
    }
    if (depth === 0 && (c === "," || c === "]")) return true;
    if (c === '"') isInText = true;
    else if (c === "{" || c === "[") depth += 1;
    else if (c === "}" || c === "]") depth -= 1;
    return false;
  };
  for await (const piece of readPieces(path)) {
    const text = decode(piece);
    let from = 0;
    for (let i = 0; i < text.length; i++) {
      const c = text[i] ?? "";
      if (state === "element") {
        if (!stepElement(c)) continue;
        rows += 1;
        yield { at: `: row ${rows}`, text: begun + text.slice(from, i) };
        begun = "";
        state = c === "," ? "next" : "end";
        continue;
      }
      if (c === " " || c === "\n" || c === "\r" || c === "\t") continue;
      if (state === "start" && c === "[") state = "first";
      else if (state === "first" && c === "]") state = "end";
      else if ((state === "first" || state === "next") && c !== "," && c !== "]") {
        state = "element";
        [depth, isInText, isEscaped] = [0, false, false];
        from = i;
        stepElement(c);
      } else throw broken(`is not a JSON list: unexpected ${JSON.stringify(c)} after row ${rows}`);
    }
    if (state !== "element") continue;
    begun += text.slice(from);
    if (begun.length > MAX_ELEMENT_CHARACTERS)
      throw broken(`row ${rows + 1} is longer than ${MAX_ELEMENT_CHARACTERS} characters`);
  }
  decode();
  if (state !== "end") throw broken(`is not a whole JSON list: it ends after row ${rows}`);
}
