/** Greedy answers to prompts, one after the other. */
import type { Tokenizer } from "../data/tokenizer.js";
import type { Generator } from "../generate/generator.js";
import { argmax } from "../generate/sample.js";

export interface Prompt {
  readonly ids: readonly number[];
  readonly maxNewTokens: number;
  /** The answer ends before the first of these texts. */
  readonly ends: readonly string[];
}

/** The part of a text before any of the ends, and whether there was one. */
function beforeEnds(text: string, ends: readonly string[]): readonly [string, boolean] {
  const places = ends.map((end) => text.indexOf(end)).filter((at) => at >= 0);
  return places.length > 0 ? [text.slice(0, Math.min(...places)), true] : [text, false];
}

/** The greedy continuation, without special tokens. */
export async function respond(generator: Generator, tokenizer: Tokenizer, prompt: Prompt): Promise<string> {
  generator.reset();
  const decoder = tokenizer.streamDecoder();
  let text = "";
  let logits = await generator.feed(prompt.ids);
  for (let count = 1; ; count++) {
    const id = argmax(logits);
    if (tokenizer.eosTokenIds.includes(id)) break;
    text += decoder.push(id);
    if (count === prompt.maxNewTokens || beforeEnds(text, prompt.ends)[1]) break;
    logits = await generator.feed([id]);
  }
  return beforeEnds(text + decoder.end(), prompt.ends)[0];
}
