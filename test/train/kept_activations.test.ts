/** Layer inputs and activations that wait in 16 bits: what magnitudes learn from them. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openCheckpointFile, readAsF32 } from "../../src/formats/checkpoint.js";
import { writeSafetensors, type TensorToWrite } from "../../src/formats/safetensors.js";
import { FIXTURES } from "../fixture_files.js";
import { useGpu } from "../kernels/harness.js";
import { trainOnGpu } from "./golden_gpu.js";
import { goldenConfig, type Values } from "./golden_run.js";
import { randomRun } from "./random_run.js";

const context = useGpu();

type Settings = Partial<Awaited<ReturnType<typeof goldenConfig>>>;

async function gradientsOf(settings: Settings): Promise<Values> {
  const config = await goldenConfig(join(FIXTURES, "training", "dora_llama"));
  return (await trainOnGpu({ ...config, ...settings, max_steps: 1 }, context.gpu)).gradients;
}

/** ||got - want|| / ||want|| */
function distance(got: ArrayLike<number> = [], want: ArrayLike<number> = []): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    difference += (got[i]! - want[i]!) ** 2;
    size += want[i]! ** 2;
  }
  expect(size).toBeGreaterThan(0);
  return Math.sqrt(difference / size);
}

it("gives the last o_proj's magnitudes the same gradient with bf16 layer inputs", async () => {
  const selective = { gradient_checkpointing: "selective" } as const;
  const exact = await gradientsOf({ ...selective, checkpoint_dtype: "f32" });
  const rounded = await gradientsOf({ ...selective, checkpoint_dtype: "bf16" });
  // Below the last layer gradients have passed a norm whose input was rounded.
  const name = [...exact.keys()].findLast((n) => n.includes("o_proj.lora_magnitude")) ?? "";
  expect(distance(rounded.get(name), exact.get(name)), name).toBeLessThan(1e-5);
});

it.each(["full", "selective"] as const)(
  "takes what o_proj and down_proj made from rounded sums: %s",
  async (gradient_checkpointing) => {
    const exact = await gradientsOf({ gradient_checkpointing });
    const rounded = await gradientsOf({ gradient_checkpointing, compute_dtype: "auto" });
    const names = [...exact.keys()].filter((n) => /(?:o|down)_proj\.lora_magnitude/.test(n));
    expect(names).toHaveLength(4);
    // Numbers of 14 bits, whose rounding goes both ways: 2e-4 to 6e-4 was seen.
    for (const name of names) expect(distance(rounded.get(name), exact.get(name)), name).toBeLessThan(2e-3);
  },
);

/** Rows of o_proj and down_proj and what they are scaled by: with a small magnitude, rounding of the sum looks large. */
const SMALL_ROWS = [
  [10, 1e-2],
  [20, 1e-3],
  [30, 1e-4],
  [40, 1e-6],
] as const;

async function scaleRows(path: string): Promise<void> {
  const file = await openCheckpointFile(path);
  const tensors = new Map<string, TensorToWrite>();
  for (const entry of file.tensors.values()) {
    const data = Float32Array.from(await readAsF32(file, entry));
    const [rows = 1] = entry.shape;
    if (/(?:o|down)_proj\.weight$/.test(entry.name))
      for (const [row, scale] of SMALL_ROWS)
        for (let i = (row * data.length) / rows; i < ((row + 1) * data.length) / rows; i++)
          data[i] = data[i]! * scale;
    tensors.set(entry.name, { dtype: "F32", shape: entry.shape, data });
  }
  await file.close();
  await writeSafetensors(path, tensors, { format: "pt" });
}

it.each(["full", "selective"] as const)(
  "takes no rounding for the gradient of a row that is nearly zero: %s",
  async (gradient_checkpointing) => {
    const folder = await mkdtemp(join(tmpdir(), "qdora-small-rows-"));
    const { resident } = await randomRun(folder, 7, {
      model: {
        model_type: "llama",
        hidden_size: 64,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        mlp_bias: false,
        attention_bias: false,
      },
      settings: {
        use_dora: true,
        rank: 8,
        rank_pattern: undefined,
        target_modules: "all-linear",
        quant: "none",
        max_seq_length: 150,
        max_steps: 1,
      },
    });
    await scaleRows(join(folder, "model", "model.safetensors"));
    const train = (compute_dtype: "f32" | "auto") =>
      trainOnGpu(
        { ...resident, init_adapter: undefined, compute_dtype, gradient_checkpointing },
        context.gpu,
      );
    const [exact, rounded] = [await train("f32"), await train("auto")];
    expect(rounded.run.storage.checkpoint).toBe("bfp16");
    const { grad_norm: want = 0 } = exact.steps[0] ?? {};
    expect(Math.abs((rounded.steps[0]?.grad_norm ?? 0) / want - 1)).toBeLessThan(1e-2);
    for (const [name, values] of exact.gradients) {
      if (!/(?:o|down)_proj\.lora_magnitude/.test(name)) continue;
      // A row of a thousandth is off by a tenth of its gradient, smaller ones learn nothing.
      expect(distance(rounded.gradients.get(name), values), name).toBeLessThan(0.3);
    }
    await rm(folder, { recursive: true });
  },
);
