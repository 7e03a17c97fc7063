/** What a row of data is: as read from a file (one of five kinds), and as the trainer wants it. */

/** A label that is not scored. */
export const IGNORED_LABEL = -100;

/** One turn of a conversation. Other keys of the file (name, tool_calls, reasoning_content) go to the chat template as they are. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string | null;
  readonly [key: string]: unknown;
}

/** A row as it was read. `where` is "file:line" for messages. */
export type DataRow = { readonly where: string } & (
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "completion"; readonly prompt: string; readonly completion: string }
  /** Assistant turns from `scoredFrom` on are answers to learn. */
  | {
      readonly kind: "chat";
      readonly messages: readonly ChatMessage[];
      readonly scoredFrom: number;
      readonly tools: readonly unknown[] | undefined;
    }
  | {
      readonly kind: "instruction";
      readonly instruction: string;
      readonly input: string;
      readonly output: string;
      readonly system: string;
    }
  | {
      readonly kind: "ids";
      readonly inputIds: readonly number[];
      readonly labels: readonly number[] | undefined;
    }
);

/** A row as tokens. */
export interface EncodedRow {
  /** [tokens] */
  readonly inputIds: Int32Array;
  /** [tokens] not shifted: labels[t] belongs to inputIds[t]; -100 = not scored */
  readonly labels: Int32Array;
  /** It was longer than max_seq_length and lost its end. */
  readonly truncated: boolean;
  /** Labels that are not -100, without the first one (shifting drops it). */
  readonly scored: number;
}
