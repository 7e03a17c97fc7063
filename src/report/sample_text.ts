/** Rows as people read them: decoded, with what is scored marked by colour or by brackets. */
import { IGNORED_LABEL, type EncodedRow } from "../data/row.js";
import type { Tokenizer } from "../data/tokenizer.js";

/** A stretch of a row whose labels all count, or none does. */
export interface Segment {
  readonly text: string;
  readonly scored: boolean;
}

/** @param tokenizer ids are shown as numbers if there is none */
export function segmentsOf(
  row: EncodedRow,
  tokenizer: Pick<Tokenizer, "decode"> | undefined,
): readonly Segment[] {
  const segments: Segment[] = [];
  const { inputIds, labels } = row;
  // The first label is dropped by shifting, whatever it says.
  const isScored = (t: number): boolean => t > 0 && labels[t] !== IGNORED_LABEL;
  for (let from = 0, to = 0; from < inputIds.length; from = to) {
    const scored = isScored(from);
    to = from + 1;
    while (to < inputIds.length && isScored(to) === scored) to += 1;
    const ids = inputIds.subarray(from, to);
    segments.push({ text: tokenizer ? tokenizer.decode(ids) : ids.join(" "), scored });
  }
  return segments;
}

const [SCORED, MASKED, RESET] = ["\u001B[32m", "\u001B[2m", "\u001B[0m"];
const SHOWN_CHARACTERS = 2000;

/** Control characters of a text could drive the terminal: line ends stay, others are written out. */
export const printable = (text: string): string =>
  text.replaceAll(/[^\P{C}\n]/gu, (c) =>
    c === "\t" ? "\\t" : `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`,
  );

/** The text of a row in lines; what is scored is green, or in [[ ]] where there is no colour. */
export function sampleText(segments: readonly Segment[], hasColor: boolean): string {
  let left = SHOWN_CHARACTERS;
  let text = "";
  for (const segment of segments) {
    if (left <= 0) break;
    const shown = printable(segment.text.slice(0, left));
    left -= segment.text.length;
    if (hasColor) text += `${segment.scored ? SCORED : MASKED}${shown}${RESET}`;
    else text += segment.scored ? `[[${shown}]]` : shown;
  }
  return left < 0 ? `${text} …` : text;
}
