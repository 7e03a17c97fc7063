/** Many plans, looked at as WebGPU and time would: nothing is read and written in one buffer, nothing is overwritten while it lives. */
import { describe, expect, it } from "vitest";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { architectureOf } from "../../src/model/config.js";
import { evaluationProgram, microBatchProgram } from "../../src/model/programs.js";
import type { Program } from "../../src/program/kernel.js";
import { placeOf, type MemoryPlan, type Place } from "../../src/program/planner.js";
import { isTransient, type Tensor } from "../../src/program/tensor.js";
import { defaultChoices, planRun, type PlannedRun } from "../../src/train/memory.js";
import { layoutOf } from "../../src/train/prepare.js";

const BASE = {
  vocab_size: 500,
  hidden_size: 64,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  intermediate_size: 192,
  max_position_embeddings: 4096,
};
const CONFIGS: Readonly<Record<string, object>> = {
  "llama, untied": { ...BASE, model_type: "llama", tie_word_embeddings: false },
  "llama, tied, with biases": {
    ...BASE,
    model_type: "llama",
    tie_word_embeddings: true,
    attention_bias: true,
    mlp_bias: true,
  },
  "mistral, with a window": { ...BASE, model_type: "mistral", sliding_window: 9 },
  "qwen3, with q and k norms": { ...BASE, model_type: "qwen3", tie_word_embeddings: true },
  "llama, odd widths": {
    ...BASE,
    model_type: "llama",
    head_dim: 6,
    hidden_size: 70,
    intermediate_size: 99,
  },
};
const SETTINGS: readonly Readonly<Record<string, string | number | boolean>>[] = [
  {},
  { use_dora: false, token_chunk: 128 },
  { compute_dtype: "f32", token_chunk: 128 },
  { gradient_checkpointing: "selective", checkpoint_dtype: "bf16" },
  { gradient_checkpointing: "selective", token_chunk: 128 },
  { gradient_checkpointing: "selective", checkpoint_place: "host", token_chunk: 128 },
  { checkpoint_place: "host", token_chunk: 128 },
  { gradient_checkpointing: "none", token_chunk: 128 },
  { checkpoint_place: "host", stream_layers: "all", token_chunk: 128 },
  { checkpoint_place: "host", checkpoint_dtype: "f32", stream_layers: "2", quant_head: "nf4" },
  { optimizer: "adamw8bit", target_modules: "q_proj,v_proj,k_proj", exclude_modules: "k_proj", rank: 3 },
  { target_modules: "down_proj", quant_head: "nf4", token_chunk: 128 },
  { quant_head: "int8", token_chunk: 128 },
];

const overlap = (a: Place, b: Place): boolean =>
  a.buffer === b.buffer && a.offsetBytes < b.offsetBytes + b.bytes && b.offsetBytes < a.offsetBytes + a.bytes;

/** What a dispatch may not bind together. */
function conflictsOf(plan: MemoryPlan, { name, calls }: Program): readonly string[] {
  return calls.flatMap((call) => {
    if (call.kernel.transfer) return [];
    const bound = Object.entries(call.tensors).map(([binding, t]) => ({
      place: placeOf(plan, t, name),
      isRead: call.kernel.bindings[binding] === "read",
    }));
    return bound.flatMap((a, i) =>
      bound
        .slice(i + 1)
        .filter(
          (b) =>
            a.place.buffer === b.place.buffer &&
            (a.isRead !== b.isRead || (!a.isRead && overlap(a.place, b.place))),
        )
        .map(() => `${name}: ${call.label}`),
    );
  });
}

interface Life {
  readonly t: Tensor;
  readonly first: number;
  last: number;
}

/** Pairs of tensors that live at the same time in the same memory. */
function overwritten(plan: MemoryPlan, { name, calls }: Program): readonly string[] {
  const lives = new Map<string, Life>();
  for (const [i, call] of calls.entries()) {
    for (const bound of Object.values(call.tensors)) {
      const t = bound.view?.base ?? bound;
      if (!isTransient(t)) continue;
      const life = lives.get(t.name) ?? { t, first: i, last: i };
      life.last = i;
      lives.set(t.name, life);
    }
  }
  const all = [...lives.values()].map((life) => ({ ...life, place: placeOf(plan, life.t, name) }));
  return all.flatMap((a, i) =>
    all
      .slice(i + 1)
      .filter((b) => a.first <= b.last && b.first <= a.last && overlap(a.place, b.place))
      .map((b) => `${name}: ${a.t.name} and ${b.t.name}`),
  );
}

const placesOf = (plan: MemoryPlan, { name, calls }: Program): readonly Place[] =>
  calls.flatMap((call) => Object.values(call.tensors).map((t) => placeOf(plan, t, name)));

function expectSound(run: PlannedRun, capacity: number): void {
  for (const program of run.programs) {
    expect(conflictsOf(run.plan, program)).toEqual([]);
    expect(overwritten(run.plan, program)).toEqual([]);
  }
  const sizes = { capacity, checkpointing: run.settings.gradient_checkpointing, storage: run.storage };
  for (const [i, build] of [microBatchProgram, evaluationProgram].entries()) {
    const whole = run.programs[2 * i] as Program;
    // Bind groups are made once: whatever the tokens, the places are the same.
    for (const N of new Set([1, Math.min(capacity, 128), capacity - 1].filter((n) => n > 0)))
      expect(placesOf(run.plan, build(run.model, run.stream, { ...sizes, N }))).toEqual(
        placesOf(run.plan, whole),
      );
  }
}

describe.each(Object.entries(CONFIGS))("%s", (name, config) => {
  it.each(SETTINGS)("%j", async (flags) => {
    const settings = await resolveFinetuneConfig({ rank: 8, ...flags }, undefined, [
      "model",
      "data",
      "output_dir",
    ]);
    const arch = architectureOf(config, name);
    for (const capacity of [1, 129, 300]) {
      const shape = {
        arch,
        linear: () => ({ format: "nf4", blockSize: 64, doubleQuant: true }) as const,
        table: "bf16",
        head: "bf16",
        layout: layoutOf(arch, settings),
        capacity,
        positions: capacity,
        evaluates: true,
      } as const;
      expectSound(planRun(shape, defaultChoices(shape, settings)), capacity);
    }
  });
});
