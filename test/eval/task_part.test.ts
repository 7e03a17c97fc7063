/** What tasks make of a model's losses and answers, without a model. */
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/data/tokenizer.js";
import { encodeRequest } from "../../src/eval/encode_pair.js";
import { taskPart, type TaskOptions } from "../../src/eval/task_part.js";
import { BOS, tinyFolder } from "../data/tiny_tokenizer.js";
import { TINY } from "../stories/qdora.js";
import { itemsOf } from "./harness.js";

const options = async (more: Partial<TaskOptions> = {}): Promise<TaskOptions> => ({
  tokenizer: await loadTokenizer(TINY),
  maxTokens: 512,
  method: "likelihood",
  chat: false,
  maxNewTokens: undefined,
  ...more,
});
const ARC = {
  where: "x.jsonl:1",
  value: { question: "Which?", choices: { text: ["a", "bbbbbb"], label: ["A", "B"] }, answerKey: "B" },
};

describe("choices", () => {
  it("takes the likeliest, and by character where acc_norm asks; the first wins a tie", async () => {
    const part = await taskPart("arc_easy", [ARC, ARC, ARC], await options());
    expect(part.rows).toHaveLength(6);
    // Per item: the loss of each choice.
    expect(part.outcomes([2, 3, 3, 2, 1, 6], []).map(({ scores }) => scores)).toEqual([
      { acc: 0, acc_norm: 1 },
      { acc: 1, acc_norm: 1 },
      { acc: 0, acc_norm: 0 },
    ]);
  });
});

describe("generated answers", () => {
  it("are read as LLM-Adapters reads them", async () => {
    const part = await taskPart("arc_easy", [ARC, ARC], await options({ method: "generate" }));
    expect(part.prompts.map(({ maxNewTokens }) => maxNewTokens)).toEqual([32, 32]);
    expect(part.outcomes([], ["the correct answer is answer2", "B"])).toEqual([
      { scores: { acc: 1 }, detail: { prediction: "answer2", text: "the correct answer is answer2" } },
      { scores: { acc: 0 }, detail: { prediction: "", text: "B" } },
    ]);
  });
  it("go through the chat template with the instruction alone", async () => {
    const { tokenizer } = await options();
    const part = await taskPart("arc_easy", [ARC], await options({ method: "generate", chat: true }));
    expect(tokenizer.decode(part.prompts[0]?.ids ?? [])).toMatch(
      /^<\|im_start\|>user\nPlease choose[^#]*answer1\/answer2<\|im_end\|>\n<\|im_start\|>assistant\n$/,
    );
  });
  it("leave room in the model for the answer: long prompts lose their beginning", async () => {
    const rows = itemsOf("gsm8k");
    const part = await taskPart("gsm8k", rows, await options({ maxTokens: 40, maxNewTokens: 30 }));
    expect(part.truncated).toBe(rows.length);
    expect(part.prompts.every(({ ids }) => ids.length === 10)).toBe(true);
    await expect(taskPart("gsm8k", rows, await options({ maxTokens: 40, maxNewTokens: 40 }))).rejects.toThrow(
      /max_new_tokens: 40 leaves no room for a prompt \(limit 39/,
    );
  });
});

describe("requests as tokens", () => {
  const labelled = (row: { readonly inputIds: Int32Array; readonly labels: Int32Array }): readonly number[] =>
    Array.from(row.inputIds.filter((_, t) => row.labels[t] !== -100));
  it("put BOS before the context once, and score the continuation with the context's last spaces", async () => {
    const tokenizer = await loadTokenizer(tinyFolder({ addBos: true }));
    const row = encodeRequest(tokenizer, { context: "ab  ", continuation: "x" }, "", 100);
    expect(row.inputIds[0]).toBe(BOS);
    expect(tokenizer.decode(labelled(row))).toBe("  x");
    const marked = encodeRequest(tokenizer, { context: "<|bos|>ab", continuation: " x" }, "", 100);
    expect([...marked.inputIds].filter((id) => id === BOS)).toHaveLength(1);
  });
  it("stand after BOS where there is no context", async () => {
    const tokenizer = await loadTokenizer(tinyFolder({ addBos: true }));
    const row = encodeRequest(tokenizer, { context: "", continuation: "ab" }, "", 100);
    expect(row.inputIds[0]).toBe(BOS);
    expect(tokenizer.decode(labelled(row))).toBe("ab");
  });
  it("refuse a choice that adds nothing, which would win", async () => {
    const { tokenizer } = await options();
    expect(() => encodeRequest(tokenizer, { context: "one", continuation: "" }, "x.jsonl:3", 512)).toThrow(
      /x\.jsonl:3: the choice "" adds no token/,
    );
  });
  it("lose their beginning when they are longer than the model, which never reads the last token", async () => {
    const { tokenizer } = await options();
    const whole = encodeRequest(tokenizer, { context: "one two three four", continuation: " five" }, "", 512);
    const cut = encodeRequest(tokenizer, { context: "one two three four", continuation: " five" }, "", 3);
    expect(cut.inputIds).toEqual(whole.inputIds.slice(-4));
    expect([cut.truncated, whole.truncated]).toEqual([true, false]);
    expect(labelled(cut)).toEqual(labelled(whole).slice(-3));
  });
});
