/** What `qdora data` found, as text. */
import type { BrokenRows } from "../data/broken_rows.js";
import type { ColumnCounts } from "../data/column_counts.js";
import type { KindCounts } from "../data/encode_chunk.js";
import { printable } from "./sample_text.js";

/** Kinds of rows in the words of the README. */
const KIND_WORDS: Readonly<Record<keyof KindCounts, string>> = {
  text: "text",
  completion: "prompt and completion",
  chat: "conversation",
  instruction: "instruction",
  ids: "ready-made token ids",
};

/** "980 conversation, 20 text", the most frequent first. */
export function kindWords(kinds: KindCounts): string {
  const counted = Object.entries(kinds) as readonly (readonly [keyof KindCounts, number])[];
  return counted
    .filter(([, count]) => count > 0)
    .toSorted(([, a], [, b]) => b - a)
    .map(([kind, count]) => `${count.toLocaleString("en-US")} ${KIND_WORDS[kind]}`)
    .join(", ");
}

const COLUMNS_SHOWN = 40;

/** "text, source (in 2 of 20 rows)", with the names made printable. */
export function columnWords(columns: ColumnCounts, kinds: KindCounts): string {
  const rows = Object.values(kinds).reduce((sum, count) => sum + count, 0);
  const words = columns
    .slice(0, COLUMNS_SHOWN)
    .map(([name, count]) =>
      count === rows
        ? name
        : `${name} (in ${count.toLocaleString("en-US")} of ${rows.toLocaleString("en-US")} rows)`,
    );
  const more = columns.length - words.length;
  return printable([...words, ...(more > 0 ? [`and ${more} more`] : [])].join(", "));
}

const NAMED = 3;

/** "2 broken rows (a.jsonl:17: is not JSON (…); a.jsonl:40: the row is empty)" */
export function brokenWords(broken: BrokenRows): string {
  const named = broken.named.slice(0, NAMED).join("; ");
  const more = broken.count > NAMED ? `; and ${broken.count - NAMED} more` : "";
  return `${broken.count} broken row${broken.count === 1 ? "" : "s"} (${named}${more})`;
}
