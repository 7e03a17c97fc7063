/** The shape of a row: which of the known ones it has, and are its fields sound. */
import { QdoraError } from "../formats/error.js";
import { describe, readMessages } from "./messages.js";
import type { DataRow } from "./row.js";

const SHAPES =
  "use `text`; `prompt` and `completion`; `messages`; `conversations`; `instruction` and `output`; or `input_ids`";

type Fields = Readonly<Record<string, unknown>>;

function textOf(row: Fields, key: string, where: string): string {
  const value = row[key];
  if (typeof value === "string") return value;
  throw new QdoraError(where, `${key} is ${describe(value)} instead of text`, `write ${key} as a string`);
}

/** A text that may be missing or null. */
const optionalText = (row: Fields, key: string, where: string): string =>
  row[key] == null ? "" : textOf(row, key, where);

function integersOf(row: Fields, key: string, where: string): readonly number[] {
  const value = row[key];
  if (!Array.isArray(value))
    throw new QdoraError(
      where,
      `${key} is ${describe(value)} instead of a list`,
      `write ${key} as a list of integers`,
    );
  const bad = value.findIndex((id) => !Number.isSafeInteger(id));
  if (bad >= 0)
    throw new QdoraError(
      where,
      `${key}[${bad}] is ${JSON.stringify(value[bad])}`,
      `write ${key} as a list of integers`,
    );
  return value as number[];
}

function toolsOf(row: Fields, where: string): readonly unknown[] | undefined {
  const value = row["tools"];
  if (value == null) return undefined;
  if (!Array.isArray(value))
    throw new QdoraError(
      where,
      `tools is ${describe(value)} instead of a list`,
      "write a list of tool descriptions",
    );
  return value.length > 0 ? value : undefined;
}

/**
 * Tells the shape of a row and checks it.
 * @param where names the row in messages
 * @throws QdoraError for a row of no known shape, or with a broken field
 */
export function readRow(value: unknown, where: string): DataRow {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new QdoraError(where, `the row is ${describe(value)} instead of an object`, SHAPES);
  }
  const row = value as Fields;
  const has = (key: string): boolean => row[key] != null;
  if (has("input_ids")) {
    return {
      kind: "ids",
      where,
      inputIds: integersOf(row, "input_ids", where),
      labels: has("labels") ? integersOf(row, "labels", where) : undefined,
    };
  }
  if (has("messages"))
    return {
      kind: "chat",
      where,
      messages: readMessages(row["messages"], where, "messages"),
      scoredFrom: 0,
      tools: toolsOf(row, where),
    };
  if (has("conversations")) {
    const system = optionalText(row, "system", where);
    const first = system === "" ? [] : [{ role: "system", content: system }];
    const turns = readMessages(row["conversations"], where, "conversations");
    return { kind: "chat", where, messages: [...first, ...turns], scoredFrom: 0, tools: toolsOf(row, where) };
  }
  if (has("prompt") || has("completion")) return promptRow(row, where);
  if (has("instruction")) {
    if (Array.isArray(row["history"]) && row["history"].length > 0) {
      throw new QdoraError(
        where,
        "has a `history` beside `instruction`",
        "write such conversations as `messages`",
      );
    }
    const text = (key: string): string => optionalText(row, key, where);
    return {
      kind: "instruction",
      where,
      instruction: textOf(row, "instruction", where),
      input: text("input"),
      output: textOf(row, "output", where),
      system: text("system"),
    };
  }
  if (has("text")) return { kind: "text", where, text: textOf(row, "text", where) };
  const keys = Object.keys(row)
    .slice(0, 8)
    .map((key) => JSON.stringify(key.slice(0, 40)));
  throw new QdoraError(
    where,
    keys.length > 0 ? `the row has no known shape; its keys are ${keys.join(", ")}` : "the row is empty",
    SHAPES,
  );
}

function promptRow(row: Fields, where: string): DataRow {
  const { prompt, completion } = row;
  if (Array.isArray(prompt) && Array.isArray(completion)) {
    const asked = readMessages(prompt, where, "prompt");
    const answered = readMessages(completion, where, "completion");
    return {
      kind: "chat",
      where,
      messages: [...asked, ...answered],
      scoredFrom: asked.length,
      tools: toolsOf(row, where),
    };
  }
  if (Array.isArray(prompt) || Array.isArray(completion)) {
    throw new QdoraError(
      where,
      "only one of prompt and completion is a list of messages",
      "write both as text or both as messages",
    );
  }
  return {
    kind: "completion",
    where,
    prompt: textOf(row, "prompt", where),
    completion: textOf(row, "completion", where),
  };
}
