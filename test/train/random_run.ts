/** Runs over random models of odd shapes with random settings: what no fixture thinks of. The same seed gives the same run. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { adapterToPeft } from "../../src/adapter/peft.js";
import { resolveFinetuneConfig, type FinetuneConfig } from "../../src/config/resolve.js";
import { f32ToBf16 } from "../../src/formats/floats.js";
import { writePeftAdapter } from "../../src/formats/peft.js";
import { writeSafetensors, type TensorToWrite } from "../../src/formats/safetensors.js";
import { architectureOf } from "../../src/model/config.js";
import { allModules } from "../../src/model/modules.js";
import { RandomSource } from "../../src/program/random.js";
import { peftConfig } from "../../src/train/output.js";
import { prepareRun } from "../../src/train/prepare.js";

class Dice {
  readonly #source: RandomSource;

  constructor(seed: number, stream: number) {
    this.#source = new RandomSource(seed, stream);
  }

  int(from: number, to: number): number {
    return from + this.#source.nextBelow(to - from + 1);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.#source.nextBelow(choices.length)] as T;
  }

  chance(p: number): boolean {
    return this.#source.nextUniform() < p;
  }

  /** Roughly normal. */
  values(count: number, scale: number, mean = 0): Float32Array {
    const u = (): number => this.#source.nextUniform();
    return Float32Array.from(
      { length: count },
      () => mean + scale * Math.sqrt(3) * (u() + u() + u() + u() - 2),
    );
  }
}

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

function modelConfig(dice: Dice) {
  const type = dice.pick(["llama", "mistral", "qwen2", "qwen3"]);
  const heads = dice.pick([1, 2, 3, 4, 6]);
  return {
    model_type: type,
    vocab_size: dice.pick([33, 100, 131, 257]),
    hidden_size: dice.pick([2 * dice.int(4, 40), 64]),
    num_hidden_layers: dice.int(2, 4),
    num_attention_heads: heads,
    num_key_value_heads: dice.pick([1, 2, 3].filter((kv) => heads % kv === 0)),
    head_dim: dice.pick([2, 6, 8, 12, 16, 24]),
    intermediate_size: dice.pick([dice.int(5, 130), 64]),
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: dice.chance(0.5),
    attention_bias: dice.chance(0.5),
    mlp_bias: dice.chance(0.3),
    sliding_window: type === "mistral" ? dice.pick([null, 3, 17]) : null,
  };
}

async function writeModel(folder: string, config: ReturnType<typeof modelConfig>, dice: Dice): Promise<void> {
  mkdirSync(folder);
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const arch = architectureOf(config, folder);
  const entries = new Map<string, TensorToWrite>();
  const put = (name: string, shape: readonly number[], scale: number, mean = 0): void => {
    const values = dice.values(
      shape.reduce((a, b) => a * b, 1),
      scale,
      mean,
    );
    entries.set(name, { dtype: "BF16", shape, data: bytesOf(f32ToBf16(values)) });
  };
  put("model.embed_tokens.weight", [arch.vocab, arch.hidden], 1);
  if (!arch.tied) put("lm_head.weight", [arch.vocab, arch.hidden], 0.2);
  put("model.norm.weight", [arch.hidden], 0.2, 1);
  for (const m of allModules(arch)) {
    put(`${m.path}.weight`, [m.out, m.in], 1 / Math.sqrt(m.in));
    if (m.bias) put(`${m.path}.bias`, [m.out], 0.3);
  }
  for (let layer = 0; layer < arch.layers; layer++) {
    const path = `model.layers.${layer}`;
    for (const norm of ["input_layernorm", "post_attention_layernorm"])
      put(`${path}.${norm}.weight`, [arch.hidden], 0.2, 1);
    if (arch.qkNorm)
      for (const norm of ["q_norm", "k_norm"])
        put(`${path}.self_attn.${norm}.weight`, [arch.headDim], 0.2, 1);
  }
  await writeSafetensors(join(folder, "model.safetensors"), entries, { format: "pt" });
}

function settings(dice: Dice, layers: number, smallest: number): Readonly<Record<string, unknown>> {
  const rank = Math.min(smallest, dice.pick([1, 3, 4, 7, 8, 16, 17, 20]));
  const first = dice.int(0, layers - 1);
  return {
    rank,
    alpha: dice.pick([rank, 0.5, 7]),
    use_dora: dice.chance(0.75),
    use_rslora: dice.chance(0.3),
    quant: dice.pick(["nf4", "none"]),
    double_quant: dice.chance(0.5),
    quant_head: dice.pick(["none", "int8", "nf4"]),
    compute_dtype: dice.pick(["f32", "auto"]),
    gradient_checkpointing: dice.pick(["full", "selective", "none"]),
    optimizer: dice.pick(["adamw", "adamw8bit"]),
    batch_size: dice.int(1, 3),
    gradient_accumulation_steps: dice.int(1, 3),
    max_seq_length: dice.pick([40, 150]),
    token_chunk: 128,
    weight_decay: dice.pick([0, 0.1]),
    rank_pattern: dice.chance(0.3) ? { k_proj: Math.min(smallest, 5) } : undefined,
    ...(dice.chance(0.4) && {
      target_modules: String.raw`.*layers\.(${first}|${layers - 1})\..*${dice.pick(["_proj", "down_proj", "[qkv]_proj"])}`,
      rank_pattern: undefined,
    }),
  };
}

function rows(dice: Dice, vocab: number): string {
  const row = (): string => {
    const length = dice.pick([2, 3, dice.int(2, 30), dice.int(2, 150), 128, 129]);
    const ids = Array.from({ length }, () => dice.int(0, vocab - 1));
    return JSON.stringify({ input_ids: ids, labels: ids.map((id) => (dice.chance(0.7) ? id : -100)) });
  };
  return `${Array.from({ length: 24 }, row).join("\n")}\n`;
}

export interface RandomRun {
  /** All layers and their inputs on the GPU; two steps. */
  readonly resident: FinetuneConfig;
  /** The same run with layers that are streamed and inputs that may wait on the host. */
  readonly streamed: FinetuneConfig;
}

/** What of a run is not left to chance. */
export interface Fixed {
  readonly model?: Readonly<Record<string, unknown>>;
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** Writes model, rows and a start adapter in which nothing is zero. */
export async function randomRun(folder: string, seed: number, fixed: Fixed = {}): Promise<RandomRun> {
  const dice = new Dice(seed, 0);
  const config = { ...modelConfig(dice), ...fixed.model };
  const { hidden_size: hidden, intermediate_size: wide, num_hidden_layers: layers } = config;
  const smallest = Math.min(hidden, wide, config.num_key_value_heads * config.head_dim);
  const paths = {
    model: join(folder, "model"),
    data: join(folder, "rows.jsonl"),
    output_dir: join(folder, "out"),
    init_adapter: join(folder, "start"),
  };
  await writeModel(paths.model, config, new Dice(seed, 1));
  const chosen = settings(dice, layers, smallest);
  writeFileSync(paths.data, rows(dice, config.vocab_size));
  const flags = { ...chosen, model: paths.model, data: paths.data, output_dir: paths.output_dir };
  const common = {
    ...flags,
    seed,
    tune: "off",
    max_steps: 2,
    warmup_steps: 0,
    ...fixed.settings,
    lr_scheduler: "constant",
    learning_rate: 1e-3,
  };
  const run = await prepareRun(await resolveFinetuneConfig(common));
  run.dataset.close();
  const values = new Map(
    [...run.layout.modules.values()].map((m) => [
      m.path,
      {
        a: dice.values(m.rank * m.in, 1 / Math.sqrt(m.in)),
        b: dice.values(m.rank * m.out, 0.3 / Math.sqrt(m.rank)),
        ...(m.parameters.magnitude && { magnitude: dice.values(m.out, 0.2, 1) }),
      },
    ]),
  );
  mkdirSync(paths.init_adapter);
  await writePeftAdapter(paths.init_adapter, peftConfig(run), adapterToPeft(run.layout, values));
  const start = { ...common, init_adapter: paths.init_adapter };
  return {
    resident: await resolveFinetuneConfig({ ...start, stream_layers: "0", checkpoint_place: "gpu" }),
    streamed: await resolveFinetuneConfig({
      ...start,
      stream_layers: dice.pick(["all", String(dice.int(1, layers))]),
      layer_cache: dice.pick(["ram", "disk"]),
      checkpoint_place: dice.pick(["gpu", "host"]),
    }),
  };
}
