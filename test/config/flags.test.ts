import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { addFinetuneFlags } from "../../src/config/flags.js";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { flagName, KEY_NAMES, keyOf } from "../../src/config/schema.js";
import { nearest } from "../../src/config/suggest.js";

function command(): Command {
  const made = new Command("finetune")
    .exitOverride()
    .configureOutput({ writeErr: () => undefined, writeOut: () => undefined });
  return addFinetuneFlags(made.configureHelp({ helpWidth: 400 }));
}
const parse = (...args: string[]): Record<string, unknown> => command().parse(args, { from: "user" }).opts();

describe("addFinetuneFlags", () => {
  it("shows a line with its default for every key, in groups", () => {
    const lines = command().helpInformation().split("\n");
    for (const name of KEY_NAMES) {
      const key = keyOf(name);
      const own = lines.filter((line) => line.trim().split(" ")[0] === flagName(name));
      expect(own, name).toHaveLength(1);
      const shown = key.isRequired
        ? "(required)"
        : `(default: ${key.shown ?? (["string", "number", "boolean"].includes(typeof key.fallback) ? String(key.fallback) : "none")})`;
      expect(own[0]).toContain(key.help);
      expect(own[0]).toMatch(new RegExp(`${shown.replaceAll(/[()]/g, String.raw`\$&`)}$`));
      expect(key.help.length, name).toBeGreaterThan(10);
      expect(lines).toContain(`${key.group}:`);
    }
    expect(lines.find((line) => line.includes("--alpha "))).toContain("(default: 2 x rank)");
    expect(lines.find((line) => line.includes("--learning-rate "))).toContain("(default: 0.0001)");
  });

  it("sets nothing that was not said", () => {
    expect(parse()).toEqual({});
  });

  it("reads booleans in every form, and switches", () => {
    expect(
      parse(
        "--packing",
        "--no-use-dora",
        "--shuffle",
        "false",
        "--double-quant",
        "true",
        "--resume",
        "--dry-run",
      ),
    ).toEqual({
      packing: true,
      useDora: false,
      shuffle: "false",
      doubleQuant: "true",
      resume: true,
      dryRun: true,
    });
  });

  it("round-trips every key through flags", async () => {
    const config = await resolveFinetuneConfig(
      parse(
        ..."--model m --data d --data-weights 2,0.5 --columns prompt=q,completion=a --output-dir o --init-adapter a --quant none --no-double-quant --compute-dtype f32 --use-dora false --use-rslora".split(
          " ",
        ),
        ..."--rank 3 --alpha 7 --dropout 0 --target-modules q_proj,v_proj --exclude-modules lm_head --rank-pattern q_proj=2 --alpha-pattern q_proj=1.5".split(
          " ",
        ),
        ..."--max-seq-length 77 --packing true --batch-size 2 --gradient-accumulation-steps 3 --no-shuffle --train-on-prompt --val-size 0.1".split(
          " ",
        ),
        ..."--epochs 2 --max-steps 9 --learning-rate 3e-5 --lr-scheduler linear --warmup-steps 0 --warmup-ratio 0.1 --weight-decay 0.01".split(
          " ",
        ),
        ..."--max-grad-norm 0.3 --optimizer adamw --seed 11 --eval-steps 4 --logging-steps 2 --gradient-checkpointing none".split(
          " ",
        ),
        ..."--checkpoint-dtype bf16 --checkpoint-place host --stream-layers 3 --layer-cache disk --token-chunk 64 --quant-head nf4 --memory-limit 2GB --device software --tune off --dry-run --revision main".split(
          " ",
        ),
      ),
    );
    expect(config).toEqual({
      model: "m",
      data: "d",
      data_weights: [2, 0.5],
      columns: { prompt: "q", completion: "a" },
      output_dir: "o",
      init_adapter: "a",
      quant: "none",
      double_quant: false,
      quant_head: "nf4",
      compute_dtype: "f32",
      use_dora: false,
      use_rslora: true,
      rank: 3,
      alpha: 7,
      dropout: 0,
      target_modules: ["q_proj", "v_proj"],
      exclude_modules: ["lm_head"],
      rank_pattern: { q_proj: 2 },
      alpha_pattern: { q_proj: 1.5 },
      max_seq_length: 77,
      packing: true,
      batch_size: 2,
      gradient_accumulation_steps: 3,
      shuffle: false,
      train_on_prompt: true,
      val_size: 0.1,
      epochs: 2,
      max_steps: 9,
      learning_rate: 3e-5,
      lr_scheduler: "linear",
      warmup_steps: 0,
      warmup_ratio: 0.1,
      weight_decay: 0.01,
      max_grad_norm: 0.3,
      optimizer: "adamw",
      seed: 11,
      eval_steps: 4,
      logging_steps: 2,
      save_steps: undefined,
      save_total_limit: undefined,
      resume: false,
      gradient_checkpointing: "none",
      checkpoint_dtype: "bf16",
      checkpoint_place: "host",
      stream_layers: 3,
      layer_cache: "disk",
      token_chunk: 64,
      memory_limit: 2e9,
      device: "software",
      tune: "off",
      dry_run: true,
      revision: "main",
    });
  });

  it("names the nearest flag for a misspelt one", () => {
    expect(() => parse("--lerning-rate", "1")).toThrow(/Did you mean --learning-rate/);
  });
});

describe("nearest", () => {
  it("suggests near names only", () => {
    const known = ["learning_rate", "lr_scheduler", "rank", "seed"];
    expect(
      ["learningrate", "LEARNING-RATE", "learn_rate", "rnak", "sed"].map((name) => nearest(name, known)),
    ).toEqual(["learning_rate", "learning_rate", "learning_rate", "rank", "seed"]);
    expect(["zebra", "x", "scheduler_of_rates"].map((name) => nearest(name, known))).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
  });
});
