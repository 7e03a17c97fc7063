import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/data/tokenizer.js";
import { BOS, CHATML, END, tinyFolder, tinyTokenizer, VOCAB } from "./tiny_tokenizer.js";

describe("loadTokenizer", () => {
  it("encodes, decodes and knows its special tokens", async () => {
    const tokenizer = await loadTokenizer(tinyFolder({ addBos: true, chatTemplate: CHATML }));
    const ids = tokenizer.encode("hello hello<|im_end|>");
    expect(ids).toEqual([BOS, 259, 260, END]);
    expect(tokenizer.encode("hello", { addSpecialTokens: false })).toEqual([259]);
    expect(tokenizer.decode(ids)).toBe("<|bos|>hello hello<|im_end|>");
    expect(tokenizer.decode(Int32Array.from(ids), { skipSpecialTokens: true })).toBe("hello hello");
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode([VOCAB + 7])).toBe("");
    expect(tokenizer).toMatchObject({
      vocabSize: VOCAB,
      eosTokenId: END,
      bosTokenId: BOS,
      prefixIds: [BOS],
      suffixIds: [],
      chatTemplate: CHATML,
    });
    expect(tokenizer.specialTokens).toEqual({ bos_token: "<|bos|>", eos_token: "<|im_end|>" });
  });

  it("gathers the end tokens of all files, the tokenizer's first", async () => {
    const files = {
      "generation_config.json": { eos_token_id: [7, END] },
      "config.json": { eos_token_id: 9 },
    };
    const tokenizer = await loadTokenizer(tinyFolder({ files }));
    expect(tokenizer.eosTokenIds).toEqual([END, 7, 9]);
    const nameless = await loadTokenizer(tinyFolder({ files, tokenizerConfig: { eos_token: null } }));
    expect(nameless.eosTokenIds).toEqual([7, END, 9]);
    const none = await loadTokenizer(tinyFolder({ tokenizerConfig: { eos_token: null } }));
    expect(none.eosTokenId).toBeUndefined();
  });

  it("finds the chat template in any of its places", async () => {
    const named = [
      { name: "tool_use", template: "t" },
      { name: "default", template: "d" },
    ];
    expect((await loadTokenizer(tinyFolder({ chatTemplate: named }))).chatTemplate).toBe("d");
    expect(
      (await loadTokenizer(tinyFolder({ chatTemplate: "c", files: { "chat_template.jinja": "file" } })))
        .chatTemplate,
    ).toBe("file");
    expect((await loadTokenizer(tinyFolder())).chatTemplate).toBeUndefined();
    await expect(loadTokenizer(tinyFolder({ chatTemplate: 3 }))).rejects.toThrow(
      /tokenizer_config.json: chat_template is neither/,
    );
  });

  it("streams whole characters only", async () => {
    const tokenizer = await loadTokenizer(tinyFolder());
    const text = "né 👍🏽 ok";
    const ids = tokenizer.encode(text, { addSpecialTokens: false });
    expect(ids.length).toBeGreaterThan(text.length);
    const stream = tokenizer.streamDecoder();
    const pieces = [...ids, END].map((id) => stream.push(id));
    expect(pieces.join("") + stream.end()).toBe(text);
    expect(pieces.filter((piece) => piece.includes("\uFFFD"))).toEqual([]);
    expect(pieces.slice(0, 3)).toEqual(["n", "", "é"]);
    const cut = tokenizer.streamDecoder();
    expect(cut.push(ids[1] ?? 0)).toBe("");
    expect(cut.end()).toBe("\uFFFD");
  });

  // Ids from the Rust library (tokenizers 0.23.3) on the same tokenizer.json.
  const byteLevel = (add_prefix_space: boolean) => ({
    type: "ByteLevel",
    add_prefix_space,
    trim_offsets: true,
    use_regex: true,
  });
  const digits = { type: "Digits", individual_digits: true };
  it.each([
    [
      "Digits",
      { type: "Sequence", pretokenizers: [digits, byteLevel(false)] },
      [[120, 301, 32, 300], [305], [307, 97]],
    ],
    ["ByteLevel", byteLevel(false), [[120, 301, 303], [305], [307, 97]]],
    [
      "ByteLevel with a prefix space",
      byteLevel(true),
      [
        [32, 120, 301, 303],
        [32, 305],
        [32, 307, 97],
      ],
    ],
  ])("splits numbers and white space as the Rust library does: %s", async (_, preTokenizer, expected) => {
    const merges = ["Â ½", "Â ²", "x Â²", "Ġ Â½", "Â ħ", "Âħ Âħ", "ï »", "ï» ¿", "ï»¿ a"];
    const base = tinyTokenizer({ preTokenizer }) as {
      model: { vocab: Record<string, number>; merges: string[] };
    };
    for (const merge of merges) base.model.vocab[merge.replace(" ", "")] ??= 300 + merges.indexOf(merge);
    const folder = tinyFolder({
      preTokenizer,
      files: { "tokenizer.json": { ...base, model: { ...base.model, merges } } },
    });
    const tokenizer = await loadTokenizer(folder);
    const texts = ["x² ½", "\u0085\u0085", "\ufeffa"];
    expect(texts.map((text) => tokenizer.encode(text, { addSpecialTokens: false }))).toEqual(expected);
  });

  it("refuses files that are missing or broken, by name", async () => {
    await expect(loadTokenizer("/no/such/folder")).rejects.toThrow(/tokenizer.json: does not exist/);
    const broken = async (name: string, value: unknown) =>
      loadTokenizer(tinyFolder({ files: { [name]: value } }));
    await expect(broken("tokenizer.json", "{")).rejects.toThrow(/tokenizer.json: is not valid JSON/);
    await expect(broken("tokenizer.json", [])).rejects.toThrow(/tokenizer.json: is not a JSON object/);
    await expect(broken("tokenizer.json", {})).rejects.toThrow(/tokenizer.json: has no `model`/);
    await expect(broken("tokenizer_config.json", "[")).rejects.toThrow(
      /tokenizer_config.json: is not valid JSON/,
    );
    await expect(
      broken("tokenizer.json", { ...tinyTokenizer(), model: { type: "Magic", vocab: {} } }),
    ).rejects.toThrow(/model type "Magic" is not known/);
    const odder = { ...tinyTokenizer(), decoder: { type: "Magic" } };
    await expect(broken("tokenizer.json", odder)).rejects.toThrow(
      /tokenizer.json: cannot be used \(Unknown Decoder/,
    );
    const far = { ...tinyTokenizer(), added_tokens: [{ id: 4e9, content: "x" }] };
    await expect(broken("tokenizer.json", far)).rejects.toThrow(/token "x" has the id 4000000000/);
    const odd = { type: "Split", pattern: { String: " " }, behavior: "MergedWithNext", invert: false };
    await expect(loadTokenizer(tinyFolder({ preTokenizer: odd }))).rejects.toThrow(
      /"MergedWithNext", which is not supported/,
    );
    const folder = tinyFolder();
    writeFileSync(join(folder, "special_tokens_map.json"), "7");
    await expect(loadTokenizer(folder)).rejects.toThrow(/special_tokens_map.json: is not a JSON object/);
  });
});
