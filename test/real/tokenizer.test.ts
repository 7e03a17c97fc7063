/** Token ids, chat rendering and label masks of a real model, against transformers (fixtures/smollm2). */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadDataset } from "../../src/data/dataset.js";
import { renderChat } from "../../src/data/template.js";
import { loadTokenizer } from "../../src/data/tokenizer.js";

const folder = process.env["QDORA_SMOLLM2"] ?? "";
const fixtures = join(import.meta.dirname, "../fixtures/smollm2");
const VOCAB = 49152;

interface Rendered {
  readonly text: string;
  readonly ids: readonly number[];
}
interface Expected {
  readonly tokenizer_json_sha256: string;
  readonly tokenizer: readonly {
    readonly text: string;
    readonly ids: readonly number[];
    readonly decoded: string;
  }[];
  readonly chats: readonly {
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly plain: Rendered;
    readonly with_generation_prompt: Rendered;
  }[];
  readonly nll: Rendered;
}
const expected = JSON.parse(readFileSync(join(fixtures, "expected.json"), "utf8")) as Expected;
const jsonl = (path: string): { readonly input_ids: number[]; readonly labels: number[] }[] =>
  readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

describe.skipIf(folder === "")("tokenizer of SmolLM2 (folder in QDORA_SMOLLM2)", () => {
  it("is the one that the numbers belong to", () => {
    const bytes = readFileSync(join(folder, "tokenizer.json"));
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(expected.tokenizer_json_sha256);
  });

  it("gives transformers' ids and text", async () => {
    const tokenizer = await loadTokenizer(folder);
    expect(expected.tokenizer).toHaveLength(47);
    for (const { text, ids, decoded } of [
      ...expected.tokenizer,
      { ...expected.nll, decoded: expected.nll.text },
    ]) {
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids);
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(decoded);
      const stream = tokenizer.streamDecoder({ skipSpecialTokens: false });
      expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(decoded);
    }
    expect(tokenizer).toMatchObject({
      vocabSize: VOCAB,
      eosTokenId: 2,
      eosTokenIds: [2],
      bosTokenId: 1,
      prefixIds: [],
      suffixIds: [],
    });
  });

  it("renders chats as transformers does", async () => {
    const tokenizer = await loadTokenizer(folder);
    for (const { messages, plain, with_generation_prompt: prompt } of expected.chats) {
      expect(await renderChat(tokenizer, messages)).toBe(plain.text);
      expect(await renderChat(tokenizer, messages, { addGenerationPrompt: true })).toBe(prompt.text);
      expect(tokenizer.encode(plain.text, { addSpecialTokens: false })).toEqual(plain.ids);
      expect(tokenizer.encode(prompt.text, { addSpecialTokens: false })).toEqual(prompt.ids);
    }
  });

  it("masks messages.jsonl as the ready-made labels of data.jsonl", async () => {
    const tokenizer = await loadTokenizer(folder);
    const options = { vocabSize: VOCAB, maxSeqLength: 128, trainOnPrompt: false, seed: 0 };
    const chats = await loadDataset({ ...options, tokenizer, data: join(fixtures, "messages.jsonl") });
    const golden = jsonl(join(fixtures, "training/data.jsonl"));
    expect(Array.from(chats.train, (row) => [...row.inputIds])).toEqual(golden.map((row) => row.input_ids));
    expect(Array.from(chats.train, (row) => [...row.labels])).toEqual(golden.map((row) => row.labels));
    const ready = await loadDataset({ ...options, data: join(fixtures, "training/data.jsonl") });
    expect([...chats.train]).toEqual([...ready.train]);
    expect(chats.counts).toEqual(ready.counts);
  });
});
