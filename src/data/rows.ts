/** Rows out of JSON and JSONL files: finds the files, parses them and tells the shape of each row. */
import { open, readFile, stat } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { readLines } from "./lines.js";
import { describe, readMessages } from "./messages.js";
import type { DataRow } from "./row.js";

export interface DataFiles {
  readonly train: string;
  readonly validation: string | undefined;
}

const EXTENSIONS = [".jsonl", ".ndjson", ".json"];
/** A `.json` file is parsed as a whole; V8's strings end at 512 MiB. */
const MAX_JSON_BYTES = 500_000_000;
const SHAPES =
  "use `text`; `prompt` and `completion`; `messages`; `conversations`; `instruction` and `output`; or `input_ids`";

type Fields = Readonly<Record<string, unknown>>;

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

async function firstFile(folder: string, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    for (const extension of EXTENSIONS) {
      const path = join(folder, name + extension);
      if (await isFile(path)) return path;
    }
  }
  return undefined;
}

/**
 * The files that `data` names: one file, or a folder with train.jsonl and perhaps valid.jsonl.
 * @throws QdoraError if there is none, or its format is not known
 */
export async function findDataFiles(path: string): Promise<DataFiles> {
  const found = await stat(path).catch(() => undefined);
  if (!found)
    throw new QdoraError(
      "data",
      `${path} does not exist`,
      "give a .jsonl or .json file, or a folder with train.jsonl",
    );
  if (found.isDirectory()) {
    const train = await firstFile(path, ["train"]);
    if (train === undefined) {
      throw new QdoraError(
        "data",
        `${path} has no train.jsonl`,
        "give a file, or a folder with train.jsonl and perhaps valid.jsonl",
      );
    }
    return { train, validation: await firstFile(path, ["valid", "validation"]) };
  }
  if (!found.isFile())
    throw new QdoraError("data", `${path} is neither a file nor a folder`, "give a .jsonl or .json file");
  const extension = extname(path).toLowerCase();
  if (!EXTENSIONS.includes(extension)) {
    throw new QdoraError(
      "data",
      `${basename(path)} has the ending "${extension}"`,
      `these can be read: ${EXTENSIONS.join(", ")}`,
    );
  }
  return { train: path, validation: undefined };
}

function parse(text: string, where: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const reason = (error as Error).message.replaceAll(/\s+/g, " ").slice(0, 120);
    throw new QdoraError(where, `is not JSON (${reason})`, "write one JSON object on each line", {
      cause: error,
    });
  }
}

/** The rows of a file, in its order. @throws QdoraError naming file:line (or file:row) for a broken row */
export async function* readRows(path: string): AsyncGenerator<DataRow> {
  if (extname(path).toLowerCase() === ".json" && (await startsWithList(path))) {
    const { size } = await stat(path);
    if (size > MAX_JSON_BYTES) {
      throw new QdoraError(
        path,
        `is too large to parse at once, got ${size} bytes (limit ${MAX_JSON_BYTES})`,
        "convert it to .jsonl: one row on each line",
      );
    }
    const list = parse(await readFile(path, "utf8"), path) as unknown[];
    for (const [index, value] of list.entries()) yield readRow(value, `${path}: row ${index + 1}`);
    return;
  }
  for await (const { number, text } of readLines(path)) {
    const where = `${path}:${number}`;
    yield readRow(parse(text, where), where);
  }
}

/** Many `.json` files hold one object on each line; a list starts with "[". */
async function startsWithList(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
    return buffer
      .toString("utf8", 0, bytesRead)
      .replace(/^\uFEFF/, "")
      .trimStart()
      .startsWith("[");
  } finally {
    await file.close();
  }
}

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
