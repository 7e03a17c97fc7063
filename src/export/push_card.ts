/** The README.md that goes to the Hub: front matter that the Hub reads, the repository's name, and nothing of this machine. */
import { homedir } from "node:os";
import { basename } from "node:path";
import { Document, isMap, parseDocument } from "yaml";
import { QdoraError } from "../formats/error.js";
import { isObject, quoted } from "../formats/json.js";

export interface CardFacts {
  /** ORG/NAME that is pushed to. */
  readonly id: string;
  readonly kind: "adapter" | "model";
  /** The base by its name on the Hub; undefined if it has none there. */
  readonly base: string | undefined;
  /** How the files on this disk call it, where that is not its name on the Hub. */
  readonly localBase: string | undefined;
  /** "lora", "dora"; none for a model that says nothing of it. */
  readonly method: string | undefined;
  /** Absolute path of the folder that is pushed. */
  readonly folder: string;
  /** Lines of a table, for a folder without a card. */
  readonly rows: readonly (readonly [string, string])[];
}

const FENCE = /^---[ \t]*\r?\n(?:([\s\S]*?)\r?\n)?---[ \t]*(?:\r?\n|$)/;
const NOT_A_NUMBER = /(\|\s*|:\s*\.?)[-+]?(nan|inf|infinity|undefined)\s*(\||$)/i;
/** Absolute paths below the usual roots, and Windows paths. Addresses have a word, `:` or `/` before. */
const LOCAL_PATH =
  /file:\/\/\S+|(?<![\w:/.~-])(?:~|\/(?:home|Users|root|tmp|mnt|media|data|opt|srv|var|private|workspace|scratch|Volumes))\/[^\s"'`)|]+|(?<!\w)[A-Za-z]:\\[^\s"'`)|]+/;

/**
 * @param text the folder's README.md; undefined = none, and one is written
 * @param path how messages call it
 * @throws QdoraError naming the line for front matter that is no YAML, numbers that are none, and paths of this machine
 */
export function cardForHub(text: string | undefined, path: string, facts: CardFacts): string {
  const whole = text ?? newBody(facts);
  const fence = FENCE.exec(whole);
  const body = mendBody(fence ? whole.slice(fence[0].length) : whole, facts);
  const front = frontMatter(fence?.[1] ?? "", path, facts, text === undefined);
  const card = `---\n${front.trimEnd()}\n---\n${body.startsWith("\n") ? "" : "\n"}${body}`;
  checkLines(card, path, facts.folder);
  return card;
}

/** The front matter with what the Hub needs; keys that a person wrote stay. */
function frontMatter(text: string, path: string, facts: CardFacts, isNew: boolean): string {
  const document =
    text.trim() === "" ? new Document({}) : parseDocument(text, { uniqueKeys: true, logLevel: "error" });
  const [error] = document.errors;
  if (error) {
    const line = error.linePos?.[0].line;
    const [first = ""] = error.message.split("\n");
    throw new QdoraError(
      path,
      `line ${(line ?? 0) + 1}: the front matter is not YAML (${first.replace(/ at line \d+.*$/, "")})`,
      "mend it, or delete the file: a new card is written then",
    );
  }
  if (!isMap(document.contents))
    throw new QdoraError(
      path,
      "the front matter is no list of keys and values",
      "mend it, or delete the file",
    );
  if (facts.base === undefined) document.delete("base_model");
  else document.set("base_model", facts.base);
  if (!document.has("library_name"))
    document.set("library_name", facts.kind === "adapter" ? "peft" : "transformers");
  if (!document.has("pipeline_tag")) document.set("pipeline_tag", "text-generation");
  // The Hub refuses or shows what it does not know: no licence is better than a guess.
  const license: unknown = document.get("license") ?? "";
  if (typeof license === "string" && /^(unknown|none)?$/i.test(license)) document.delete("license");
  const values: unknown = document.toJS({ maxAliasCount: 10 });
  const found = isObject(values) ? (values["tags"] ?? []) : [];
  const tags = new Set((Array.isArray(found) ? found : [found]).map(String));
  if (isNew) tags.add("qdora");
  if (facts.method !== undefined) tags.add(facts.method);
  if (tags.size > 0) document.set("tags", [...tags]);
  return document.toString({ lineWidth: 0 });
}

/** The texts that qdora's cards hold in place of what is known now. */
function mendBody(text: string, { id, base, localBase, folder }: CardFacts): string {
  const [, name = id] = id.split("/");
  let body = text
    .replace(/^(\s*# )(.+)$/m, (line, head: string, title: string) =>
      title.trim() === basename(folder) ? `${head}${name}` : line,
    )
    .replaceAll("path/to/this/folder", id);
  if (localBase === undefined) return body;
  const known = base ?? "BASE_MODEL";
  body = body.replaceAll(JSON.stringify(localBase), JSON.stringify(known));
  for (const mark of [localBase, basename(localBase)]) body = body.replaceAll(`\`${mark}\``, `\`${known}\``);
  return body;
}

function checkLines(card: string, path: string, folder: string): void {
  for (const [index, line] of card.split("\n").entries()) {
    const place = `line ${index + 1}`;
    if (NOT_A_NUMBER.test(line))
      throw new QdoraError(
        path,
        `${place} has a number that is none: ${quoted(line.trim())}`,
        "the run went wrong: train again, or mend the card",
      );
    const own = [folder, homedir(), process.cwd()].find((p) => p.length > 1 && line.includes(p));
    const local = own ?? LOCAL_PATH.exec(line)?.[0];
    if (local !== undefined)
      throw new QdoraError(
        path,
        `${place} names a path of this machine: ${quoted(local)}`,
        "mend that line: the card is for people who do not have it",
      );
  }
}

/** A card for a folder that has none. */
function newBody({ id, kind, base, rows }: CardFacts): string {
  const [, name = id] = id.split("/");
  const table = rows.map(([key, value]) => `| ${key} | ${value} |`).join("\n");
  const loading =
    kind === "adapter"
      ? `from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(${JSON.stringify(base ?? "BASE_MODEL")})
model = PeftModel.from_pretrained(base, ${JSON.stringify(id)})`
      : `from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(${JSON.stringify(id)})
tokenizer = AutoTokenizer.from_pretrained(${JSON.stringify(id)})`;
  return `
# ${name}

| | |
|---|---|
${table}

\`\`\`python
${loading}
\`\`\`
`;
}

/** The keys of a card that say which base it is of; undefined without a card or key. */
export function cardBase(text: string | undefined): string | undefined {
  const front = FENCE.exec(text ?? "")?.[1];
  if (front === undefined) return undefined;
  const document = parseDocument(front, { logLevel: "error" });
  if (document.errors.length > 0 || !isMap(document.contents)) return undefined;
  const base: unknown = document.get("base_model");
  return typeof base === "string" && base !== "" ? base : undefined;
}
