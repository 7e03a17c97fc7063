/** Where in a list of tokens a character of the text begins. */
import type { Tokenizer } from "./tokenizer.js";

/**
 * The first token that begins at or after a character. A token that reaches across the boundary belongs to the side where
 * it begins, as it would for a reader who goes from left to right.
 * @param ids the tokens of `text`, without special tokens around it
 * @param at index of a character of `text`
 * @returns an index into `ids`, or undefined if it cannot be known
 */
export function firstTokenAt(
  tokenizer: Tokenizer,
  text: string,
  ids: readonly number[],
  at: number,
): number | undefined {
  if (at <= 0) return 0;
  if (at >= text.length) return ids.length;
  const before = tokenizer.encode(text.slice(0, at), { addSpecialTokens: false });
  if (before.every((id, i) => ids[i] === id)) return before.length;
  return byDecoding(tokenizer, text, ids, at);
}

/** Needs a tokenizer whose tokens decode to exactly the text. */
function byDecoding(
  tokenizer: Tokenizer,
  text: string,
  ids: readonly number[],
  at: number,
): number | undefined {
  if (tokenizer.decode(ids) !== text) return undefined;
  // Characters of which all bytes are in the first k tokens: those decode to a true beginning of the text.
  const covered = (k: number): number => {
    const decoded = tokenizer.decode(ids.slice(0, k));
    let length = 0;
    while (length < decoded.length && decoded.charCodeAt(length) === text.charCodeAt(length)) length += 1;
    return length;
  };
  let [low, high] = [0, ids.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (covered(middle) >= at) high = middle;
    else low = middle + 1;
  }
  return low;
}
