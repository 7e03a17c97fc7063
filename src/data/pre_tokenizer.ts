/**
 * Says a tokenizer.json's pre-tokenizers in words that `@huggingface/tokenizers` reads as the Rust library does: there
 * `Digits` means every Unicode number, `\s` is Unicode's white space, and `Metaspace` splits at its mark unless told not to.
 */
import { QdoraError } from "../formats/error.js";
import { isJson, type Json } from "./tokenizer_files.js";

/** GPT-2's pattern, which a `ByteLevel` pre-tokenizer applies by itself. */
const BYTE_LEVEL = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
/** What the library does for `Split`, whatever else is asked for. */
const SPLITS = new Set(["isolated", "removed"]);

const split = (pattern: string): Json => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Isolated",
  invert: false,
});
/** Puts a space before a text that begins with none: what `Metaspace` does when its mark is the space itself. */
const PREFIX_SPACE: Json = { type: "Metaspace", replacement: " ", prepend_scheme: "always" };
const sequence = (...pretokenizers: readonly Json[]): Json => ({ type: "Sequence", pretokenizers });

/**
 * @param path tokenizer.json, for messages
 * @returns a pre-tokenizer with the same meaning, or null as it came
 * @throws QdoraError for a way of splitting that the library would silently do otherwise
 */
export function plainPreTokenizer(value: unknown, path: string): Json | null {
  if (!isJson(value)) return null;
  switch (value["type"]) {
    case "Sequence": {
      const parts: readonly unknown[] = Array.isArray(value["pretokenizers"]) ? value["pretokenizers"] : [];
      return sequence(...parts.map((part) => plainPreTokenizer(part, path)).filter((part) => part !== null));
    }
    case "Digits":
      return split(value["individual_digits"] === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
    case "ByteLevel":
      if (value["use_regex"] === false) return value;
      return sequence(...(value["add_prefix_space"] === true ? [PREFIX_SPACE] : []), split(BYTE_LEVEL), {
        ...value,
        add_prefix_space: false,
        use_regex: false,
      });
    case "Metaspace": {
      if (value["split"] === false) return value;
      const mark =
        typeof value["replacement"] === "string" && value["replacement"].length === 1
          ? value["replacement"]
          : "\u2581";
      const escaped = mark.replace(/[\\^\]-]/, String.raw`\$&`);
      return sequence(value, split(`[${escaped}][^${escaped}]*|[^${escaped}]+`));
    }
    case "Split": {
      const { behavior, invert } = value;
      if (invert === true || (typeof behavior === "string" && SPLITS.has(behavior.toLowerCase())))
        return value;
      throw new QdoraError(
        path,
        `its pre-tokenizer splits in the way ${JSON.stringify(behavior)}, which is not supported`,
        "use data with ready-made `input_ids`",
      );
    }
    default:
      return value;
  }
}
