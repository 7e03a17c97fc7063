/** A request as tokens, by the rules of lm-evaluation-harness (`_encode_pair` and `_loglikelihood_tokens`). */
import { IGNORED_LABEL, type EncodedRow } from "../data/row.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { QdoraError } from "../formats/error.js";
import type { Request } from "./choice_tasks.js";
import { rstrip } from "./python_text.js";

/** Tokens as the harness makes them: BOS and the like where the tokenizer adds them, unless the text begins with BOS. */
export function encodePrompt(tokenizer: Tokenizer, text: string): readonly number[] {
  const first = tokenizer.bosTokenId ?? tokenizer.eosTokenId;
  const mark = first === undefined ? "" : tokenizer.decode([first]);
  return tokenizer.encode(text, { addSpecialTokens: mark === "" || !text.startsWith(mark) });
}

/**
 * Context and continuation in one row whose labels are the continuation. White space at the context's end belongs to the
 * continuation; both are tokenised together and cut where the context alone ends. Too long rows lose their beginning.
 * @param maxTokens that the model reads; the last token of a row is only scored
 */
export function encodeRequest(
  tokenizer: Tokenizer,
  request: Request,
  where: string,
  maxTokens: number,
): EncodedRow {
  const [context, continuation] = encodePair(tokenizer, request, where);
  const ids = [...context, ...continuation].slice(-(maxTokens + 1));
  const scored = Math.min(continuation.length, ids.length - 1);
  if (scored === 0)
    throw new QdoraError(
      where,
      `the choice ${JSON.stringify(request.continuation.slice(0, 40))} adds no token to its context`,
      "leave the item out",
    );
  const inputIds = Int32Array.from(ids);
  const labels = new Int32Array(ids.length).fill(IGNORED_LABEL);
  labels.set(inputIds.subarray(ids.length - scored), ids.length - scored);
  return { inputIds, labels, truncated: context.length + continuation.length > ids.length, scored };
}

function encodePair(
  tokenizer: Tokenizer,
  { context, continuation }: Request,
  where: string,
): readonly [readonly number[], readonly number[]] {
  if (context === "") return afterNothing(tokenizer, continuation, where);
  const kept = rstrip(context);
  const whole = encodePrompt(tokenizer, context + continuation);
  const alone = encodePrompt(tokenizer, kept);
  return [alone, whole.slice(alone.length)];
}

/** Without a context, BOS (or EOS) stands in its place. */
function afterNothing(
  tokenizer: Tokenizer,
  continuation: string,
  where: string,
): readonly [readonly number[], readonly number[]] {
  const first = tokenizer.bosTokenId ?? tokenizer.eosTokenId;
  const ids = tokenizer.encode(continuation, { addSpecialTokens: false });
  if (first === undefined)
    throw new QdoraError(
      where,
      "the context is empty, and the model has neither BOS nor EOS to stand for it",
      "leave the item out",
    );
  return ids[0] === first ? [ids.slice(0, 1), ids.slice(1)] : [[first], ids];
}
