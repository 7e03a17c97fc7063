/** Thousands of broken settings, the same ones each time: config.json, YAML, tokenizer files, checkpoints. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { resolveFinetuneConfig, toYaml } from "../../src/config/resolve.js";
import { KEY_NAMES } from "../../src/config/schema.js";
import { loadTokenizer } from "../../src/data/tokenizer.js";
import { digestFile } from "../../src/formats/hash.js";
import { readArchitecture } from "../../src/model/config.js";
import { inverseFrequencies } from "../../src/model/rope_table.js";
import { RandomSource } from "../../src/program/random.js";
import { readCheckpoint } from "../../src/train/checkpoint.js";
import { MANIFEST, verifyCheckpoint, writeCheckpoint } from "../../src/train/checkpoint_folder.js";
import { tinyFolder } from "../data/tiny_tokenizer.js";
import { FIXTURES } from "../formats/made_files.js";
import { memoryWatch, Tally, takenOrRefused } from "../fuzzing.js";
import { mutateBytes, mutateJson, type Json } from "../mutants.js";

const folder = mkdtempSync(join(tmpdir(), "qdora-fuzz-"));
const checkMemory = memoryWatch();
afterAll(() => {
  rmSync(folder, { recursive: true });
  checkMemory();
});

const PIECES = [
  "{",
  "}",
  "[",
  "]",
  '"',
  ",",
  ":",
  "\n",
  "  ",
  "\t",
  "-1",
  "1e999",
  "null",
  "[".repeat(3000),
  "\u0000",
  "\uFEFF",
  '"__proto__":{"rank":1},',
].map((piece) => Buffer.from(piece));
const YAML_PIECES = [
  ...PIECES,
  ...[
    "&a ",
    "*a",
    "a: &a [x, x]\nb: &b [*a, *a]\n",
    "<<: *a\n",
    "!!js/function ",
    "!!binary |\n",
    "---\n",
    "...\n",
    "rank: 3\n",
    "- ",
    "? ",
    "%YAML 1.1\n",
    ".inf",
    ".nan",
    "~",
    "0x10",
    "1_000",
  ].map((piece) => Buffer.from(piece)),
];

const read = (path: string): Buffer => readFileSync(path);
const jsonOf = (path: string): Json => JSON.parse(read(path).toString()) as Json;
const text = (value: Json): Buffer => Buffer.from(JSON.stringify(value));

describe("config.json", () => {
  const ROPE = {
    llama: {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 64,
    },
    mistral: { type: "linear", factor: 2 },
    qwen2: {
      type: "yarn",
      factor: 4,
      original_max_position_embeddings: 64,
      beta_fast: 32,
      mscale: 1,
      mscale_all_dim: 1,
    },
    qwen3: { rope_type: "default" },
  } as const;
  it.each(["llama", "mistral", "qwen2", "qwen3"] as const)(
    "of %s: takes or refuses 1,200 broken ones; sizes that it takes are those of the file",
    async (name) => {
      const random = new RandomSource(21, name.length);
      const model = mkdtempSync(join(folder, "model-"));
      const path = join(model, "config.json");
      const good = {
        ...(jsonOf(join(FIXTURES, "models", name, "config.json")) as object),
        rope_scaling: ROPE[name],
      };
      const keys = [
        "head_dim",
        "layer_types",
        "rope_theta",
        "use_sliding_window",
        "quantization_config",
        "model_type",
      ];
      const tally = new Tally();
      for (let i = 0; i < 1200; i++) {
        const mutant =
          i % 4 === 0 ? mutateBytes(text(good), random, PIECES) : text(mutateJson(good, random, keys));
        writeFileSync(path, mutant);
        const outcome = await takenOrRefused(() => readArchitecture(model), path);
        tally.count(outcome);
        if ("error" in outcome) continue;
        const arch = outcome.value;
        const said = JSON.parse(mutant.toString()) as Record<string, unknown>;
        expect(arch).toMatchObject({
          modelType: said["model_type"],
          vocab: said["vocab_size"],
          hidden: said["hidden_size"],
          layers: said["num_hidden_layers"],
          heads: said["num_attention_heads"],
          feedForward: said["intermediate_size"],
        });
        expect(arch.windows.length).toBe(arch.layers);
        expect(arch.heads % arch.kvHeads).toBe(0);
        expect([...arch.windows, arch.maxPositions, arch.headDim / 2].every(Number.isSafeInteger)).toBe(true);
        const numbers = [...inverseFrequencies(arch.rope, arch.headDim), arch.rope.attentionFactor];
        expect(numbers.every(Number.isFinite), mutant.toString()).toBe(true);
      }
      tally.expectAll(1200, { taken: 150, refused: 400 });
    },
  );
});

describe("YAML settings", () => {
  it.each(["chat_small_gpu", "7b_on_8gb"])(
    "takes or refuses 1,000 broken copies of %s.yaml; taken ones resolve to themselves",
    async (name) => {
      const random = new RandomSource(22, name.length);
      const path = join(folder, `${name}.yaml`);
      const again = join(folder, `${name}-again.yaml`);
      const good = read(join(FIXTURES, "../../examples", `${name}.yaml`));
      const plain = Buffer.from(
        good
          .toString()
          .split("\n")
          .map((line) => line.replace(/\s*#.*$/, ""))
          .filter(Boolean)
          .join("\n"),
      );
      const tally = new Tally();
      // Where a required key was lost, the message names the key.
      const place = new RegExp(`${name}\\.yaml|^config: |^(${KEY_NAMES.join("|")})\\b`);
      for (let i = 0; i < 1000; i++) {
        writeFileSync(path, mutateBytes(i % 4 === 0 ? good : plain, random, YAML_PIECES));
        const outcome = await takenOrRefused(() => resolveFinetuneConfig({}, path), place);
        tally.count(outcome);
        if ("error" in outcome) {
          expect(outcome.error.exitCode).toBe(2);
          continue;
        }
        writeFileSync(again, toYaml(outcome.value));
        expect(await resolveFinetuneConfig({}, again)).toEqual(outcome.value);
      }
      tally.expectAll(1000, { taken: 100, refused: 300 });
    },
  );
});

describe("tokenizer files", () => {
  it("takes or refuses 1,200 broken ones; ids that it gives are in the vocabulary", async () => {
    const random = new RandomSource(23, 1);
    // The tokenizer's library says what it passes over.
    const warn = vi.spyOn(console, "warn").mockReturnValue();
    const split = { type: "Split", pattern: { Regex: "\\s+|[^\\s]+" }, behavior: "Isolated", invert: false };
    const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false };
    const made = tinyFolder({
      addBos: true,
      chatTemplate: "{{ messages }}",
      preTokenizer: { type: "Sequence", pretokenizers: [split, bytes] },
      files: {
        "generation_config.json": { eos_token_id: [2] },
        "special_tokens_map.json": { pad_token: "a" },
      },
    });
    const names = [
      "tokenizer.json",
      "tokenizer_config.json",
      "generation_config.json",
      "special_tokens_map.json",
    ];
    const tally = new Tally();
    try {
      for (let i = 0; i < 1200; i++) {
        const path = join(made, i % 2 === 0 ? "tokenizer.json" : (names[i % 4] ?? ""));
        const good = read(path);
        const isBytes = random.nextBelow(4) === 0;
        const keys = ["added_tokens", "pre_tokenizer", "chat_template", "eos_token", "type", "byte_fallback"];
        writeFileSync(
          path,
          isBytes
            ? mutateBytes(good, random, PIECES)
            : text(mutateJson(JSON.parse(good.toString()) as Json, random, keys)),
        );
        const outcome = await takenOrRefused(async () => {
          const tokenizer = await loadTokenizer(made);
          const ids = tokenizer.encode("hello aaaa: é\n\n👍");
          return { tokenizer, ids };
        }, made);
        writeFileSync(path, good);
        tally.count(outcome);
        if ("error" in outcome) continue;
        const { tokenizer, ids } = outcome.value;
        for (const id of [...ids, ...tokenizer.prefixIds, ...tokenizer.suffixIds])
          expect(Number.isInteger(id) && id >= 0 && id < tokenizer.vocabSize).toBe(true);
        expect(typeof tokenizer.decode(ids)).toBe("string");
        expect(typeof tokenizer.chatTemplate).toMatch(/string|undefined/);
        expect(tokenizer.eosTokenIds.every((id) => Number.isInteger(id) && id >= 0)).toBe(true);
      }
    } finally {
      rmSync(made, { recursive: true });
      warn.mockRestore();
    }
    tally.expectAll(1200, { taken: 300, refused: 200 });
  });
});

describe("checkpoints", () => {
  it("takes or refuses 800 broken manifests; a taken one names exactly the files' hashes", async () => {
    const random = new RandomSource(24, 1);
    const out = mkdtempSync(join(folder, "run-"));
    const checkpoint = await writeCheckpoint(out, 7, async (to) => {
      for (const name of ["a.json", "b.bin"]) writeFileSync(join(to, name), name.repeat(20));
    });
    const path = join(checkpoint, MANIFEST);
    const [bytes, good] = [read(path), jsonOf(path)];
    const tally = new Tally();
    for (let i = 0; i < 800; i++) {
      const mutant =
        i % 2 === 0 ? mutateBytes(bytes, random, PIECES) : text(mutateJson(good, random, ["files", "step"]));
      writeFileSync(path, mutant);
      const outcome = await takenOrRefused(() => verifyCheckpoint(out, 7, ["a.json"]), checkpoint);
      tally.count(outcome);
      if ("error" in outcome) continue;
      const { files, step } = JSON.parse(mutant.toString()) as {
        files: Record<string, unknown>;
        step: number;
      };
      expect(step).toBe(7);
      expect(Object.keys(files)).toContain("a.json");
      for (const [name, digest] of Object.entries(files))
        expect(digest).toEqual(await digestFile(join(checkpoint, name)));
    }
    tally.expectAll(800, { taken: 5, refused: 500 });
  });

  it("takes or refuses 1,200 broken states, kernel tables and settings", async () => {
    const random = new RandomSource(25, 1);
    const saved = join(folder, "checkpoint-3");
    mkdirSync(saved);
    const state: Json = {
      step: 3,
      tokens: 120,
      skipped: 0,
      skipped_in_a_row: 0,
      evaluation_pending: false,
      rollbacks: [{ step: 2, to: 1, loss: 9.5, left_out: [0, 1] }],
      recent_losses: [2.5, 2.25],
      epoch: 0.5,
      total_steps: 6,
      seed: 0,
      gpu: "a GPU",
      fingerprints: { model: "m", data: "d", held_out_data: null, model_files: { "config.json": "c" } },
    };
    const files: Readonly<Record<string, Buffer>> = {
      "trainer_state.json": text(state),
      "kernel_variants.json": text({ nf4_product_forward: "tile" }),
      "qdora_config.yaml": Buffer.from("rank: 4\nalpha: 8\ntarget_modules: [q_proj]\ncolumns: {}\n"),
    };
    for (const [name, bytes] of Object.entries(files)) writeFileSync(join(saved, name), bytes);
    const tally = new Tally();
    for (let i = 0; i < 1200; i++) {
      const [name = "", good = Buffer.alloc(0)] = Object.entries(files)[i % 3] ?? [];
      const path = join(saved, name);
      const isYaml = name.endsWith(".yaml");
      const isBytes = isYaml || random.nextBelow(3) === 0;
      const mutant = isBytes
        ? mutateBytes(good, random, isYaml ? YAML_PIECES : PIECES)
        : text(mutateJson(JSON.parse(good.toString()) as Json, random, ["step", "seed"]));
      writeFileSync(path, mutant);
      const outcome = await takenOrRefused(() => readCheckpoint(saved), path);
      writeFileSync(path, good);
      tally.count(outcome);
      if ("error" in outcome) continue;
      // Older states do not have these two.
      const absent = { rollbacks: [], recent_losses: [] };
      if (name === "trainer_state.json")
        expect(outcome.value.state).toEqual({ ...absent, ...(JSON.parse(mutant.toString()) as object) });
      if (name === "kernel_variants.json")
        expect(Object.fromEntries(outcome.value.variants)).toEqual(JSON.parse(mutant.toString()));
    }
    tally.expectAll(1200, { taken: 150, refused: 400 });
  });
});
