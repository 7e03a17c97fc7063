/** A row becomes token ids and labels: what is scored, what is masked, where EOS goes, where it is cut. */
import { QdoraError } from "../formats/error.js";
import { assistantSpans } from "./chat_spans.js";
import { IGNORED_LABEL, type ChatMessage, type DataRow, type EncodedRow } from "./row.js";
import type { ChatRenderer } from "./template.js";
import { firstTokenAt } from "./token_boundary.js";
import type { Tokenizer } from "./tokenizer.js";

export interface EncodeOptions {
  /** Rows are cut after this many tokens. */
  readonly maxSeqLength: number;
  /** Score the prompt too, not the answers only. */
  readonly trainOnPrompt: boolean;
  /** The model's; ids must be below it. */
  readonly vocabSize: number;
}

export interface Encoder {
  /** Undefined for data of ready-made ids. */
  readonly tokenizer: Tokenizer | undefined;
  /** Why there is none. */
  readonly tokenizerError?: unknown;
  readonly renderer: ChatRenderer | undefined;
}

/** @throws QdoraError naming the row if it cannot be encoded */
export async function encodeRow(row: DataRow, encoder: Encoder, options: EncodeOptions): Promise<EncodedRow> {
  if (row.kind === "ids") return encodeIds(row, options);
  const { tokenizer } = encoder;
  if (!tokenizer) {
    if (encoder.tokenizerError instanceof Error) throw encoder.tokenizerError;
    throw new QdoraError(
      row.where,
      "the row is text, and the model has no tokenizer",
      "use a model folder with tokenizer.json, or `input_ids`",
    );
  }
  switch (row.kind) {
    case "text":
      return encodeParts("", row.text, row, tokenizer, options);
    case "completion":
      return encodeParts(row.prompt, row.completion, row, tokenizer, options);
    case "chat":
      return encodeChat(row, tokenizer, encoder, options);
    case "instruction": {
      // An instruct model learns in its own format; a base model in the format of the Alpaca data set.
      if (tokenizer.chatTemplate === undefined)
        return encodeParts(alpacaPrompt(row), row.output, row, tokenizer, options);
      const asked = row.input === "" ? row.instruction : `${row.instruction}\n\n${row.input}`;
      const messages: ChatMessage[] = [
        ...(row.system === "" ? [] : [{ role: "system", content: row.system }]),
        { role: "user", content: asked },
        { role: "assistant", content: row.output },
      ];
      return encodeChat(
        { kind: "chat", where: row.where, messages, scoredFrom: 0, tools: undefined },
        tokenizer,
        encoder,
        options,
      );
    }
    default:
      return row satisfies never;
  }
}

function alpacaPrompt(row: Extract<DataRow, { kind: "instruction" }>): string {
  const { instruction, input, system } = row;
  const opening =
    system !== ""
      ? system
      : input === ""
        ? "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        : "Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.";
  const middle = input === "" ? "" : `### Input:\n${input}\n\n`;
  return `${opening}\n\n### Instruction:\n${instruction}\n\n${middle}### Response:\n`;
}

/** Prompt and text to score, tokenised together; ends with EOS. */
function encodeParts(
  prompt: string,
  scored: string,
  row: DataRow,
  tokenizer: Tokenizer,
  options: EncodeOptions,
): EncodedRow {
  const text = prompt + scored;
  const bare = tokenizer.encode(text, { addSpecialTokens: false });
  const boundary = firstTokenAt(tokenizer, text, bare, prompt.length);
  if (boundary === undefined) throw boundaryError(row.where);
  const ids = [...tokenizer.prefixIds, ...bare, ...tokenizer.suffixIds];
  const last = ids.at(-1);
  if (last === undefined || !tokenizer.eosTokenIds.includes(last)) {
    const { eosTokenId } = tokenizer;
    if (eosTokenId === undefined) {
      throw new QdoraError(
        row.where,
        "the text should end with EOS, and the model names no such token",
        "add eos_token to tokenizer_config.json",
      );
    }
    ids.push(eosTokenId);
  }
  // A row of text alone is scored from its start (the first label is dropped by shifting anyway).
  const start = prompt === "" ? 0 : tokenizer.prefixIds.length + boundary;
  return finish(ids, [[options.trainOnPrompt ? 0 : start, ids.length]], row.where, options);
}

async function encodeChat(
  row: Extract<DataRow, { kind: "chat" }>,
  tokenizer: Tokenizer,
  encoder: Encoder,
  options: EncodeOptions,
): Promise<EncodedRow> {
  if (!encoder.renderer)
    throw new QdoraError(
      row.where,
      "the row is a conversation, and there is no chat template",
      "use an instruct model",
    );
  const { text, spans } = await assistantSpans(encoder.renderer, row);
  // The template writes BOS and the like itself.
  const ids = tokenizer.encode(text, { addSpecialTokens: false });
  const scored = options.trainOnPrompt
    ? [[0, ids.length] as const]
    : spans.map((span) => {
        const [from, to] = span.map((at) => firstTokenAt(tokenizer, text, ids, at));
        if (from === undefined || to === undefined) throw boundaryError(row.where);
        return [from, to] as const;
      });
  return finish(ids, scored, row.where, options);
}

const boundaryError = (where: string): QdoraError =>
  new QdoraError(
    where,
    "the tokenizer joins the end of the prompt with the start of the answer, so they cannot be told apart",
    "end the prompt without a space and begin the answer with it, or set train_on_prompt",
  );

/** @param scored spans of tokens whose labels count */
function finish(
  ids: readonly number[],
  scored: readonly (readonly [number, number])[],
  where: string,
  options: EncodeOptions,
): EncodedRow {
  if (ids.length === 0) throw new QdoraError(where, "the row has no tokens", "leave the row out");
  checkRange(ids, "a token of the text", where, options);
  const length = Math.min(ids.length, options.maxSeqLength);
  const inputIds = Int32Array.from(ids.slice(0, length));
  const labels = new Int32Array(length).fill(IGNORED_LABEL);
  for (const [from, to] of scored) {
    labels.set(inputIds.subarray(Math.min(from, length), Math.min(to, length)), Math.min(from, length));
  }
  return { inputIds, labels, truncated: ids.length > length, scored: countScored(labels) };
}

function encodeIds(row: Extract<DataRow, { kind: "ids" }>, options: EncodeOptions): EncodedRow {
  const { where, inputIds: ids, labels = ids } = row;
  if (ids.length === 0) throw new QdoraError(where, "input_ids is empty", "leave the row out");
  if (labels.length !== ids.length) {
    throw new QdoraError(
      where,
      `labels and input_ids differ in length, got ${labels.length} and ${ids.length}`,
      "write one label for each token, -100 where it does not count",
    );
  }
  checkRange(ids, "input_ids", where, options);
  checkRange(
    labels.filter((label) => label !== IGNORED_LABEL),
    "labels",
    where,
    options,
  );
  const length = Math.min(ids.length, options.maxSeqLength);
  const kept = Int32Array.from(labels.slice(0, length));
  return {
    inputIds: Int32Array.from(ids.slice(0, length)),
    labels: kept,
    truncated: ids.length > length,
    scored: countScored(kept),
  };
}

function checkRange(ids: readonly number[], what: string, where: string, options: EncodeOptions): void {
  const bad = ids.find((id) => id < 0 || id >= options.vocabSize);
  if (bad === undefined) return;
  throw new QdoraError(
    where,
    `${what} is outside the model's vocabulary, got ${bad} (limit ${options.vocabSize - 1})`,
    "use the tokenizer that belongs to this model",
  );
}

/** Shifting drops the first label. */
function countScored(labels: Int32Array): number {
  let count = 0;
  for (let t = 1; t < labels.length; t++) if (labels[t] !== IGNORED_LABEL) count += 1;
  return count;
}
