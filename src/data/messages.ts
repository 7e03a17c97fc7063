/** Conversations as files hold them: OpenAI-style `messages`, sharegpt `conversations`. Checked here, once. */
import { QdoraError } from "../formats/error.js";
import type { ChatMessage } from "./row.js";

/** Who speaks, in sharegpt's words. */
const ROLES: Readonly<Record<string, string>> = {
  human: "user",
  user: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  assistant: "assistant",
  system: "system",
  tool: "tool",
  observation: "tool",
};

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Text, or the joined text of a list of text parts; null stays null (a turn that only calls tools). */
function contentOf(value: unknown, where: string, key: string): string | null {
  if (typeof value === "string") return value;
  if (value === null) return null;
  if (Array.isArray(value)) {
    return value
      .map((part: unknown) => {
        if (typeof part === "string") return part;
        if (isRecord(part) && typeof part["text"] === "string" && (part["type"] ?? "text") === "text")
          return part["text"];
        const kind = isRecord(part) ? JSON.stringify(part["type"]) : typeof part;
        throw new QdoraError(
          where,
          `${key} has a part of type ${kind}`,
          "only text can be trained on; leave such rows out",
        );
      })
      .join("");
  }
  throw new QdoraError(where, `${key} is ${describe(value)} instead of text`, `write ${key} as a string`);
}

/** A value in a few words, for messages. */
export function describe(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/**
 * Checks a list of turns; each has `role` and `content`, or `from` and `value`.
 * @param key the name of the list in the row, for messages
 */
export function readMessages(value: unknown, where: string, key: string): ChatMessage[] {
  if (!Array.isArray(value))
    throw new QdoraError(where, `${key} is ${describe(value)} instead of a list`, "write a list of turns");
  if (value.length === 0) throw new QdoraError(where, `${key} is empty`, "leave the row out");
  return value.map((turn: unknown, index) => {
    const name = `${key}[${index}]`;
    if (!isRecord(turn))
      throw new QdoraError(
        where,
        `${name} is ${describe(turn)} instead of an object`,
        'write {"role": …, "content": …}',
      );
    const { from, value: said, role, content, ...others } = turn;
    if (role === undefined && from !== undefined) {
      const speaker = typeof from === "string" && Object.hasOwn(ROLES, from) ? ROLES[from] : undefined;
      if (speaker === undefined) {
        throw new QdoraError(
          where,
          `${name}.from is ${JSON.stringify(from)}`,
          `use one of ${Object.keys(ROLES).join(", ")}`,
        );
      }
      return { ...others, role: speaker, content: contentOf(said, where, `${name}.value`) };
    }
    if (typeof role !== "string" || role === "") {
      throw new QdoraError(
        where,
        `${name}.role is ${role === "" ? "empty" : describe(role)}`,
        "use system, user, assistant or tool",
      );
    }
    if (content === undefined && turn["tool_calls"] !== undefined) return { ...others, role, content: null };
    return { ...others, role, content: contentOf(content, where, `${name}.content`) };
  });
}
