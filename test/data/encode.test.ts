import { describe, expect, it } from "vitest";
import { encodeRow, type EncodeOptions } from "../../src/data/encode.js";
import type { EncodedRow } from "../../src/data/row.js";
import { readRow } from "../../src/data/rows.js";
import { ChatRenderer } from "../../src/data/template.js";
import { loadTokenizer, type Tokenizer } from "../../src/data/tokenizer.js";
import { BOS, CHATML, END, tinyFolder, VOCAB, type TinyOptions } from "./tiny_tokenizer.js";

const OPTIONS: EncodeOptions = { maxSeqLength: 512, trainOnPrompt: false, vocabSize: VOCAB };

async function encode(row: object, tiny: TinyOptions = {}, options: Partial<EncodeOptions> = {}) {
  const tokenizer = await loadTokenizer(tinyFolder(tiny));
  const renderer = new ChatRenderer(tokenizer);
  try {
    const encoded = await encodeRow(readRow(row, "f:1"), { tokenizer, renderer }, { ...OPTIONS, ...options });
    return { ...encoded, ...readable(encoded, tokenizer) };
  } finally {
    renderer.close();
  }
}

/** The whole text, and the text of the labels that count. */
function readable({ inputIds, labels }: EncodedRow, tokenizer: Tokenizer) {
  labels.forEach((label, t) => expect([-100, inputIds[t]]).toContain(label));
  return {
    text: tokenizer.decode(inputIds),
    learnt: tokenizer.decode(labels.filter((label) => label !== -100)),
  };
}

describe("text and completion rows", () => {
  it("ends text with EOS unless it is there, after BOS as the tokenizer adds it", async () => {
    const plain = await encode({ text: "hello" });
    expect([...plain.inputIds]).toEqual([259, END]);
    expect([...plain.labels]).toEqual([259, END]);
    expect(plain).toMatchObject({ truncated: false, scored: 1 });
    expect([...(await encode({ text: "hello<|im_end|>" })).inputIds]).toEqual([259, END]);
    expect([...(await encode({ text: "hello" }, { addBos: true })).inputIds]).toEqual([BOS, 259, END]);
  });

  it("masks the prompt, or scores it if asked", async () => {
    const row = { prompt: "hello", completion: " hello" };
    const masked = await encode(row, { addBos: true });
    expect([...masked.inputIds]).toEqual([BOS, 259, 260, END]);
    expect([...masked.labels]).toEqual([-100, -100, 260, END]);
    expect(masked.scored).toBe(2);
    expect((await encode(row, { addBos: true }, { trainOnPrompt: true })).labels).toEqual(masked.inputIds);
  });

  it("gives a token across the boundary to the prompt, where it begins", async () => {
    // ": " is one token: the prompt's last character and the answer's first.
    const joined = await encode({ prompt: "a:", completion: " b" });
    expect(joined.text).toBe("a: b<|im_end|>");
    expect(joined.learnt).toBe("b<|im_end|>");
    const emoji = await encode({ prompt: "👍", completion: "👍" });
    expect(emoji.learnt).toBe("👍<|im_end|>");
  });

  it("cuts long rows and counts it", async () => {
    const cut = await encode({ prompt: "aaaa", completion: "cccc" }, {}, { maxSeqLength: 6 });
    expect(cut).toMatchObject({ text: "aaaacc", learnt: "cc", truncated: true, scored: 2 });
    expect(await encode({ prompt: "aaaa", completion: "c" }, {}, { maxSeqLength: 4 })).toMatchObject({
      truncated: true,
      scored: 0,
    });
    expect(await encode({ prompt: "aaaa", completion: "c" }, {}, { maxSeqLength: 6 })).toMatchObject({
      truncated: false,
      scored: 2,
    });
  });

  it("needs a tokenizer and an EOS", async () => {
    const row = readRow({ text: "hello" }, "f:1");
    await expect(encodeRow(row, { tokenizer: undefined, renderer: undefined }, OPTIONS)).rejects.toThrow(
      "f:1: the row is text, and the model has no tokenizer",
    );
    const tokenizerError = new Error("broken tokenizer.json");
    await expect(
      encodeRow(row, { tokenizer: undefined, tokenizerError, renderer: undefined }, OPTIONS),
    ).rejects.toBe(tokenizerError);
    await expect(encode({ text: "a" }, { tokenizerConfig: { eos_token: null } })).rejects.toThrow(
      "f:1: the text should end with EOS",
    );
    await expect(encode({ text: "<|im_start|>" }, {}, { vocabSize: BOS })).rejects.toThrow(
      `f:1: a token of the text is outside the model's vocabulary, got ${BOS + 1} (limit ${BOS - 1})`,
    );
  });
});

describe("instruction rows", () => {
  const row = { instruction: "Add.", input: "1+1", output: "2" };

  it("uses the chat template where there is one, else Alpaca's words", async () => {
    const chat = await encode(row, { chatTemplate: CHATML });
    expect(chat.text).toBe("<|im_start|>user\nAdd.\n\n1+1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n");
    expect(chat.learnt).toBe("2<|im_end|>\n");
    const base = await encode({ ...row, input: "" });
    expect(base.text).toBe(
      "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n2<|im_end|>",
    );
    expect(base.learnt).toBe("2<|im_end|>");
    expect((await encode(row)).text).toContain(
      "further context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1+1\n\n### Response:\n2",
    );
  });
});

/** As Qwen3: thinking is kept in the last answer only, and an empty thought is put before it. */
const THINKING = `{%- set ns = namespace(last=0) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for m in messages %}
    {%- set content = m.content.split('</think>')[-1].lstrip('\\n') %}
    {%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') if '</think>' in m.content else '' %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or thought) %}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{%- endif %}
    {{- content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`;

describe("chat rows", () => {
  const user = (content: string) => ({ role: "user", content });
  const assistant = (content: string) => ({ role: "assistant", content });
  const turns = [user("q1"), assistant("a1"), user("q2"), assistant("a2")];

  it("scores every answer with its end of turn", async () => {
    const row = await encode(
      { messages: [{ role: "system", content: "s" }, ...turns] },
      { chatTemplate: CHATML },
    );
    expect(row.learnt).toBe("a1<|im_end|>\na2<|im_end|>\n");
    expect(row.scored).toBe(8);
    expect(row.text).toMatch(/^<\|im_start\|>system\ns<\|im_end\|>\n<\|im_start\|>user\nq1/);
  });

  it("adds neither BOS nor EOS to what the template writes", async () => {
    const row = await encode({ messages: turns.slice(0, 2) }, { chatTemplate: CHATML, addBos: true });
    expect(row.text).toBe("<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\na1<|im_end|>\n");
  });

  it("scores the completion's answers only, all of it with train_on_prompt, nothing without an answer", async () => {
    const row = { prompt: turns.slice(0, 3), completion: turns.slice(3) };
    expect((await encode(row, { chatTemplate: CHATML })).learnt).toBe("a2<|im_end|>\n");
    const all = await encode(row, { chatTemplate: CHATML }, { trainOnPrompt: true });
    expect(all.labels).toEqual(all.inputIds);
    expect((await encode({ messages: [user("q")] }, { chatTemplate: CHATML })).scored).toBe(0);
  });

  it("scores an answer that comes first, and answers in a row", async () => {
    const row = await encode(
      { messages: [assistant("a0"), user("q"), assistant("a1"), assistant("a2")] },
      { chatTemplate: CHATML },
    );
    expect(row.learnt).toBe("a0<|im_end|>\na1<|im_end|>\na2<|im_end|>\n");
  });

  it("finds answers whose thinking the template drops from earlier turns", async () => {
    const messages = [
      user("q1"),
      assistant("<think>\nt1\n</think>\n\na1"),
      user("q2"),
      assistant("<think>\nt2\n</think>\n\na2"),
    ];
    const row = await encode({ messages }, { chatTemplate: THINKING });
    expect(row.text).toBe(
      "<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\na1<|im_end|>\n" +
        "<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n<think>\nt2\n</think>\n\na2<|im_end|>\n",
    );
    expect(row.learnt).toBe("a1<|im_end|>\n<think>\nt2\n</think>\n\na2<|im_end|>\n");
    const plain = await encode({ messages: turns }, { chatTemplate: THINKING });
    expect(plain.learnt).toBe("a1<|im_end|>\n<think>\n\n</think>\n\na2<|im_end|>\n");
  });

  it("keeps the header masked where the generation prompt differs from it", async () => {
    const forced = CHATML.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}");
    expect(forced).not.toBe(CHATML);
    expect((await encode({ messages: turns }, { chatTemplate: forced })).learnt).toBe(
      "a1<|im_end|>\na2<|im_end|>\n",
    );
  });

  it("is not misled by answers that look like the end of a turn", async () => {
    const row = await encode(
      { messages: [user("q"), assistant("a<|im_end|>\na"), user("q"), assistant("b")] },
      { chatTemplate: THINKING },
    );
    expect(row.learnt).toBe("a<|im_end|>\na<|im_end|>\n<think>\n\n</think>\n\nb<|im_end|>\n");
  });

  it("refuses templates that rewrite earlier turns, and conversations that the template refuses", async () => {
    const shout =
      "{% for m in messages %}{{ m.role + ':' + (m.content if loop.last else m.content | upper) + '\n' }}{% endfor %}";
    await expect(encode({ messages: turns }, { chatTemplate: shout })).rejects.toThrow(
      "f:1: the chat template rewrites turn 2 of the conversation",
    );
    const closing =
      "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}{{ '<|im_end|>' }}";
    await expect(encode({ messages: turns }, { chatTemplate: closing })).rejects.toThrow(
      "f:1: the chat template rewrites turn 2",
    );
    const strict = "{{ raise_exception('After the optional system message, roles must alternate') }}";
    await expect(encode({ messages: turns }, { chatTemplate: strict })).rejects.toThrow(
      "f:1: the chat template refuses the conversation: After the optional",
    );
    await expect(encode({ messages: turns })).rejects.toThrow(
      "chat template: the model's tokenizer has none",
    );
  });
});

describe("rows of ids", () => {
  const ids = (row: object, options: Partial<EncodeOptions> = {}): Promise<EncodedRow> =>
    encodeRow(
      readRow(row, "f:1"),
      { tokenizer: undefined, renderer: undefined },
      { ...OPTIONS, vocabSize: 10, ...options },
    );

  it("are used as they are, and need no tokenizer", async () => {
    expect(await ids({ input_ids: [1, 2, 3], labels: [1, -100, 9] })).toEqual({
      inputIds: Int32Array.of(1, 2, 3),
      labels: Int32Array.of(1, -100, 9),
      truncated: false,
      scored: 1,
    });
    expect(await ids({ input_ids: [1, 2, 3] }, { maxSeqLength: 2 })).toEqual({
      inputIds: Int32Array.of(1, 2),
      labels: Int32Array.of(1, 2),
      truncated: true,
      scored: 1,
    });
  });

  it.each([
    [{ input_ids: [] }, "f:1: input_ids is empty"],
    [{ input_ids: [10] }, "f:1: input_ids is outside the model's vocabulary, got 10 (limit 9)"],
    [{ input_ids: [-1] }, "f:1: input_ids is outside the model's vocabulary, got -1"],
    [{ input_ids: [1], labels: [-99] }, "f:1: labels is outside the model's vocabulary, got -99"],
    [{ input_ids: [1], labels: [1, 2] }, "f:1: labels and input_ids differ in length, got 2 and 1"],
  ])("refuses %j", async (row, message) => {
    await expect(ids(row)).rejects.toThrow(message);
  });
});
