/**
 * Where the assistant's answers lie in the text of a conversation. The text is the template's rendering of all turns; a
 * turn begins where the rendering of the turns before it (with generation prompt) ends, and ends where the rendering up to
 * it ends. Some templates write earlier turns in another way than the last one (Qwen3 drops old thinking): there the turn is
 * found by rendering the conversation with its content replaced by a marker, or the row is refused.
 */
import { QdoraError } from "../formats/error.js";
import type { ChatMessage, DataRow } from "./row.js";
import { isTimeout, templateError, type ChatRenderer, type RenderInput } from "./template.js";
import type { RenderResult } from "./template_child.js";

export interface ChatText {
  readonly text: string;
  /** [start, end) in characters, in rising order: answers with their end-of-turn text. */
  readonly spans: readonly (readonly [number, number])[];
}

type ChatRow = Extract<DataRow, { kind: "chat" }>;

const MARKER = "QdoraMarker7c1f93e05b";

/** @throws QdoraError naming the row if the template refuses it or its answers cannot be told from the rest */
export async function assistantSpans(renderer: ChatRenderer, row: ChatRow): Promise<ChatText> {
  const { messages, tools, where } = row;
  const answers = messages.flatMap((m, i) => (m.role === "assistant" && i >= row.scoredFrom ? [i] : []));
  const input = (part: readonly ChatMessage[], addGenerationPrompt: boolean): RenderInput => ({
    messages: part,
    addGenerationPrompt,
    tools,
  });
  const results = await renderer.render([
    input(messages, false),
    ...answers.flatMap((i) => [input(messages.slice(0, i), true), input(messages.slice(0, i + 1), false)]),
  ]);
  const text = wholeText(results[0], where);
  const spans: [number, number][] = [];
  for (const [k, answer] of answers.entries()) {
    const before = answer === 0 ? "" : prefixOf(text, results[1 + 2 * k]);
    const upTo = prefixOf(text, results[2 + 2 * k]);
    const [start, end] =
      before !== undefined && upTo !== undefined && answer > 0
        ? [before.length, upTo.length]
        : await spanByMarker(renderer, row, answer, text, answer === 0 ? undefined : before);
    if (start >= end || start < (spans.at(-1)?.[1] ?? 0)) throw refusal(row, answer);
    spans.push([start, end]);
  }
  return { text, spans };
}

function wholeText(result: RenderResult | undefined, where: string): string {
  if (result && "text" in result) return result.text;
  // A row that is refused may be left out; a template that hangs would hang at every row.
  if (result && isTimeout(result.error))
    throw new QdoraError(
      "chat template",
      `${where}: ${result.error}`,
      "check the model's chat template, or use rows with `text` or `prompt` and `completion`",
    );
  throw new QdoraError(
    where,
    `the chat template refuses the conversation: ${templateError(result?.error ?? "")}`,
    "mend the row: many templates want user and assistant turns by turns",
  );
}

/** The rendering, if the whole text begins with it. */
function prefixOf(text: string, result: RenderResult | undefined): string | undefined {
  return result && "text" in result && text.startsWith(result.text) ? result.text : undefined;
}

const refusal = (row: ChatRow, answer: number): QdoraError =>
  new QdoraError(
    row.where,
    `the chat template rewrites turn ${answer + 1} of the conversation, so its answer cannot be told from the rest`,
    "split the conversation so that each row ends with the answer to learn, or use `prompt` and `completion`",
  );

/** Renders with the answer's content replaced: what stands before and after it in the whole text, and what ends the turn. */
async function spanByMarker(
  renderer: ChatRenderer,
  row: ChatRow,
  answer: number,
  text: string,
  before: string | undefined,
): Promise<[number, number]> {
  const { messages, tools } = row;
  const marked = messages.map((message, i) => (i === answer ? { ...message, content: MARKER } : message));
  const [whole, upTo] = await renderer.render([
    { messages: marked, addGenerationPrompt: false, tools },
    { messages: marked.slice(0, answer + 1), addGenerationPrompt: false, tools },
  ]);
  const around = split(whole);
  const closing = split(upTo)?.after;
  if (!around || closing === undefined) throw refusal(row, answer);
  const { before: head, after: tail } = around;
  const contentEnd = text.length - tail.length;
  const fits =
    text.startsWith(head) && text.endsWith(tail) && head.length <= contentEnd && tail.startsWith(closing);
  const start = before?.length ?? head.length;
  if (!fits || start > contentEnd) throw refusal(row, answer);
  return [start, contentEnd + closing.length];
}

/** The text on both sides of the marker, which must stand there once. */
function split(
  result: RenderResult | undefined,
): { readonly before: string; readonly after: string } | undefined {
  if (!result || "error" in result) return undefined;
  const [before, after, ...more] = result.text.split(MARKER);
  return before === undefined || after === undefined || more.length > 0 ? undefined : { before, after };
}
