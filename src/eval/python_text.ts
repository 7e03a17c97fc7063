/** Text as Python sees it where lm-evaluation-harness depends on it: what is white space, how long a text is. */

/** What `str.isspace` holds for. Unlike JavaScript: U+001C to U+001F and U+0085 are, U+FEFF is not. */
// oxlint-disable-next-line no-control-regex -- Python counts these control characters as white space
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** `str.rstrip()` */
export function rstrip(text: string): string {
  let end = text.length;
  while (end > 0 && SPACE.test(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}

/** `str.lstrip()` */
export function lstrip(text: string): string {
  let start = 0;
  while (start < text.length && SPACE.test(text.charAt(start))) start += 1;
  return text.slice(start);
}

/** `str.strip()` */
export const strip = (text: string): string => lstrip(rstrip(text));

/** `len(text)`: code points. */
export function length(text: string): number {
  let count = text.length;
  // The second half of a surrogate pair is no code point of its own.
  for (let i = 1; i < text.length; i++) if ((text.codePointAt(i - 1) ?? 0) > 0xffff) count -= 1;
  return count;
}

/** `str.capitalize()`: the first character as a title has it, all others in lower case. */
export function capitalize(text: string): string {
  const [first = ""] = text;
  // A letter whose capital is two letters ("ß") gets only the first of them.
  const [head = "", ...tail] = first.toUpperCase();
  // All is lowered together: a sigma at the end of a word has a form of its own.
  const rest = text.toLowerCase().slice(first.toLowerCase().length);
  return head + tail.join("").toLowerCase() + rest;
}
