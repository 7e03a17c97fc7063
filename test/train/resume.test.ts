/** What may change between a checkpoint and the run that goes on from it. */
import { describe, expect, it } from "vitest";
import type { SavedRun } from "../../src/train/checkpoint.js";
import { START } from "../../src/train/position.js";
import { compareData, compareModel, compareSettings } from "../../src/train/resume.js";

const SETTINGS = {
  model: "m",
  data: "d",
  output_dir: "o",
  rank: 4,
  alpha: 8,
  target_modules: ["q_proj", "v_proj"],
  exclude_modules: null,
  quant: "nf4",
  optimizer: "adamw",
  learning_rate: 1e-4,
  batch_size: 2,
  seed: 0,
  max_steps: 10,
  tune: "quick",
};
const FILES = { data: "d1", held_out_data: null, model_files: { "config.json": "c1" } };
const SAVED: SavedRun = {
  folder: "o/checkpoint-10",
  position: { ...START, step: 10 },
  state: {
    ...START,
    step: 10,
    epoch: 1,
    total_steps: 10,
    seed: 0,
    gpu: "g",
    fingerprints: { model: "m1", ...FILES },
  },
  settings: SETTINGS,
  variants: new Map(),
};
const compare = (changes: object): readonly string[] =>
  compareSettings(SAVED, { ...SETTINGS, exclude_modules: undefined, ...changes });

describe("compareSettings", () => {
  it("is silent about the same settings, and about those that may change", () => {
    expect(compare({})).toEqual([]);
    const free = {
      max_steps: 20,
      epochs: 3,
      save_steps: 1,
      save_total_limit: 2,
      logging_steps: 5,
      eval_steps: 4,
    };
    expect(compare({ ...free, output_dir: "p", resume: true, model: "n", data: "e", tune: "off" })).toEqual(
      [],
    );
    expect(compare({ target_modules: ["v_proj", "q_proj"] })).toEqual([]);
  });

  it("warns by name about what changes the next steps", () => {
    expect(compare({ learning_rate: 2e-4, batch_size: 1, seed: 3 })).toEqual([
      "warning: learning_rate is 0.0002 now, was 0.0001 until checkpoint-10",
      "warning: batch_size is 1 now, was 2 until checkpoint-10",
      "warning: seed is 3 now, was 0 until checkpoint-10",
    ]);
  });

  it.each<readonly [string, unknown, string]>([
    ["rank", 8, "rank is 8, checkpoint-10 was trained with 4"],
    ["alpha", 4, "alpha is 4"],
    [
      "target_modules",
      ["q_proj"],
      'target_modules is ["q_proj"], checkpoint-10 was trained with ["q_proj","v_proj"]',
    ],
    ["exclude_modules", ["k_proj"], 'exclude_modules is ["k_proj"], checkpoint-10 was trained with null'],
    ["quant", "none", 'quant is "none"'],
    ["optimizer", "adamw8bit", 'optimizer is "adamw8bit"'],
  ])("refuses another %s", (key, value, says) => {
    expect(() => compare({ [key]: value })).toThrow(`resume: ${says}`);
  });
});

describe("fingerprints", () => {
  it("refuse other data and other weights", () => {
    expect(() => compareData(SAVED, { ...FILES, data: "d2" }, "rows.jsonl")).toThrow(
      "resume: rows.jsonl has other bytes than the data that checkpoint-10 was trained on",
    );
    expect(() => compareModel(SAVED, "m2", "folder")).toThrow("resume: folder has other weights");
    compareModel(SAVED, "m1", "folder");
  });

  it("warn about held-out rows and small files", () => {
    expect(compareData(SAVED, FILES, "d")).toEqual([]);
    const now = { ...FILES, held_out_data: "h", model_files: { "tokenizer.json": "t1" } };
    expect(compareData(SAVED, now, "d")).toEqual([
      expect.stringContaining("held-out rows have changed"),
      "warning: the model's config.json has changed since checkpoint-10",
      "warning: the model's tokenizer.json has changed since checkpoint-10",
    ]);
  });
});
