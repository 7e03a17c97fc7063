/** Patterns of file names as Python's fnmatch has them: `*` (also across folders), `?`, `[seq]`, `[!seq]`; case counts. */

/** What one character has to be; "any" = any number of any characters. */
type Part = "any" | ((character: string) => boolean);

/** The characters between brackets: single ones and ranges. */
function setOf(text: string): (character: string) => boolean {
  const isNot = text.startsWith("!");
  const characters = Array.from(isNot ? text.slice(1) : text);
  const ranges: (readonly [string, string])[] = [];
  for (let i = 0; i < characters.length; i++) {
    const [from = "", dash, to] = characters.slice(i, i + 3);
    const isRange = dash === "-" && to !== undefined;
    ranges.push([from, isRange ? to : from]);
    if (isRange) i += 2;
  }
  return (c) => ranges.some(([from, to]) => from <= c && c <= to) !== isNot;
}

function partsOf(pattern: string): readonly Part[] {
  const parts: Part[] = [];
  for (const [text, set] of pattern.matchAll(/\*+|\[(!?\]?[^\]]*)\]|[^]/gu)) {
    if (text.startsWith("*")) parts.push("any");
    else if (text === "?") parts.push(() => true);
    else if (set) parts.push(setOf(set));
    else for (const letter of Array.from(text)) parts.push((c) => c === letter);
  }
  return parts;
}

/** A pattern as a test of whole paths; with a slash at its end it means all below. At worst pattern x path steps. */
export function globMatcher(pattern: string): (path: string) => boolean {
  const parts = partsOf(pattern.endsWith("/") ? `${pattern}*` : pattern);
  return (path) => {
    const characters = Array.from(path);
    let [part, at] = [0, 0];
    // Where to go on if what follows the last star does not fit: one character later.
    let [star, starAt] = [-1, 0];
    while (at < characters.length) {
      const now = parts[part];
      if (now === "any") {
        [star, starAt] = [part, at];
        part++;
      } else if (now?.(characters[at] ?? "")) {
        part++;
        at++;
      } else if (star >= 0) {
        starAt++;
        [part, at] = [star + 1, starAt];
      } else return false;
    }
    return parts.slice(part).every((rest) => rest === "any");
  };
}
