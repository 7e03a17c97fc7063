/** Adds one key to the text of a JSON object and leaves every other byte as it is (numbers such as 10000.0 keep their form). */
import { stringEnd } from "./json.js";

interface Member {
  readonly key: string;
  /** Index of the key's opening quote. */
  readonly keyStart: number;
  readonly valueStart: number;
}

/** The members of the outermost object of a valid JSON text. */
function topLevelMembers(text: string): readonly Member[] {
  const members: Member[] = [];
  let depth = 0;
  let last = { key: "", start: 0 };
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "{" || c === "[") depth++;
    else if (c === "}" || c === "]") depth--;
    else if (c === '"') {
      const end = stringEnd(text, i);
      last = { key: String(JSON.parse(text.slice(i, end + 1))), start: i };
      i = end;
    } else if (c === ":" && depth === 1)
      members.push({ key: last.key, keyStart: last.start, valueStart: i + 1 });
  }
  return members;
}

/**
 * @param text a JSON object with at least one key, indented by two spaces as transformers writes it
 * @param value JSON text of the new key's value, indented by two spaces; the key may exist with the value null
 * @returns the text with the key before the first that sorts after it
 */
export function insertKey(text: string, key: string, value: string): string {
  const members = topLevelMembers(text);
  const json = value.replaceAll("\n", "\n  ");
  const existing = members.find((m) => m.key === key);
  if (existing) {
    const rest = text.slice(existing.valueStart).replace(/^(\s*)null/, (_all, space: string) => space + json);
    return text.slice(0, existing.valueStart) + rest;
  }
  const next = members.find((m) => m.key > key);
  if (next)
    return `${text.slice(0, next.keyStart)}${JSON.stringify(key)}: ${json},\n  ${text.slice(next.keyStart)}`;
  const end = text.lastIndexOf("}");
  return `${text.slice(0, end).trimEnd()},\n  ${JSON.stringify(key)}: ${json}\n${text.slice(end)}`;
}
