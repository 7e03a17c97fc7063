/** A step that is not finite where save_steps would save: stopped, resumed or extended there, the run stays the same, also when it rolls back later. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { finetune, StoppedError, type FinetuneOptions } from "../../src/index.js";
import { broken, editWeights, putValue } from "./broken_models.js";
import { useGpu } from "../kernels/harness.js";
import { expectRefused, LLAMA, qdora, storyFolder, writeRows } from "./qdora.js";
import { checkpoints, expectSameBytes, numbers, succeed } from "./training.js";

const context = useGpu();
const folder = storyFolder();
const STEPS = 20;
const [VOCAB, HIDDEN, LAYERS] = [320, 64, 2];
/** A token that overflows in the last layer's MLP: it alone has something in dimension 0, to which no module writes. */
const BAD = 319;
const model = broken(
  join(folder, "model"),
  LLAMA,
  editWeights((bytes) => {
    const put = (name: string, element: number, value: number): Buffer =>
      putValue(bytes, `model.${name}.weight`, element, value);
    for (let token = 0; token < VOCAB; token++) put("embed_tokens", token * HIDDEN, token === BAD ? 1000 : 0);
    for (let layer = 0; layer < LAYERS; layer++) {
      for (let i = 0; i < 64; i++) put(`layers.${layer}.self_attn.o_proj`, i, 0);
      for (let i = 0; i < 192; i++) put(`layers.${layer}.mlp.down_proj`, i, 0);
    }
    return put(`layers.${LAYERS - 1}.mlp.gate_proj`, 0, 1e38);
  }),
);

/** A row a step, in the file's order: step 15 is not finite, step 17 is a spike. */
const rows = Array.from({ length: 40 }, (_, i) => ({
  input_ids: Array.from({ length: 12 }, (_token, t) => {
    if (i === 14) return BAD;
    return i === 16 ? 100 + ((t * t * 37 + 11) % 200) : 1 + ((t * 5 + (i % 2)) % 10);
  }),
}));
const run: Omit<FinetuneOptions, "output_dir"> = {
  model,
  data: writeRows(join(folder, "train.jsonl"), rows),
  quant: "none",
  rank: 4,
  target_modules: ["q_proj", "k_proj", "v_proj", "up_proj"],
  shuffle: false,
  gradient_accumulation_steps: 1,
  tune: "off",
  // The weight that makes a step infinite is beyond f16 for every other step too.
  compute_dtype: "f32",
  max_steps: STEPS,
  learning_rate: 2e-2,
  lr_scheduler: "constant",
  save_steps: 5,
  save_total_limit: 2,
  loss_spike_rollback: 2,
};
const config = join(folder, "run.yaml");
// JSON is YAML.
writeFileSync(config, JSON.stringify(run));
const args = (out: string, ...more: readonly string[]): string[] => [
  "finetune",
  "--config",
  config,
  "--output-dir",
  out,
  ...more,
];

const straight = join(folder, "straight");
beforeAll(async () => {
  const { stderr } = await succeed(args(straight));
  expect(stderr).toContain("step 15: loss or gradient is not finite");
  expect(stderr).toMatch(/^step 17: loss .* is a spike .*: back to checkpoint-10, /m);
});

function expectSameRun(out: string): void {
  expectSameBytes(straight, out, "adapter_model.safetensors");
  const files = ["adapter_model.safetensors", "optimizer.safetensors", "trainer_state.json"];
  const last = `checkpoint-${STEPS}`;
  expectSameBytes(join(straight, last), join(out, last), ...files);
  expect(numbers(out)).toEqual(numbers(straight));
}

describe("a save_steps step that is not finite", () => {
  it("is not what a stopped run is saved at: the resumed one rolls back as an undisturbed one", async () => {
    const out = join(folder, "stopped");
    const controller = new AbortController();
    const stopped = finetune(
      { ...run, output_dir: out },
      {
        signal: controller.signal,
        onEvent: (event) => {
          if (event.type === "step" && event.step === 15) controller.abort();
        },
      },
    );
    await expect(stopped).rejects.toThrow(new StoppedError(14, join(out, "checkpoint-14")).message);
    expect(checkpoints(out)).toEqual(["checkpoint-10", "checkpoint-14"]);
    await succeed(args(out, "--resume"));
    expectSameRun(out);
  });

  it("is saved as a run's last step, and a longer run does not go back to it", async () => {
    const out = join(folder, "extended");
    await succeed(args(out, "--max-steps", "15", "--save-total-limit", "1"));
    // What a run with more steps would go back to is spared.
    expect(checkpoints(out)).toEqual(["checkpoint-10", "checkpoint-15"]);
    await succeed(args(out, "--resume", "--save-total-limit", "1"));
    expectSameRun(out);
  });
});

it("asks for f32 where products run in f16, which cannot hold that weight", async ({ skip }) => {
  skip(context.gpu.traits.matrixShapes.length === 0, "this adapter has no matrices");
  const f16 = args(join(folder, "f16"), "--compute-dtype", "f16");
  const refused = await qdora(f16, { env: { QDORA_VARIANT: "matrix" } });
  expectRefused(refused, 1, /not finite in 3 steps in a row \(step 3\)\nhint: .*compute_dtype f32\?$/);
});

it("leaves the optimizer as if the step had never been: the adapter is that of a run without its row", async () => {
  const few = rows.slice(10, 16);
  const adapters: string[] = [];
  for (const [name, kept] of [
    ["with", few],
    ["without", few.filter((_, i) => i !== 4)],
  ] as const) {
    const data = writeRows(join(folder, `${name}.jsonl`), kept);
    const more = { data, max_steps: kept.length, warmup_steps: 0, loss_spike_rollback: undefined };
    const { outputDir } = await finetune({ ...run, ...more, output_dir: join(folder, name) });
    adapters.push(outputDir);
  }
  const [one = "", other = ""] = adapters;
  expectSameBytes(one, other, "adapter_model.safetensors");
});
