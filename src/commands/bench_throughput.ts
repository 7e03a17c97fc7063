/** `qdora bench throughput`: tokens per second of real optimizer steps, and how much of the adapter's best product they are. */
import { freemem } from "node:os";
import type { Command } from "commander";
import { addFinetuneFlags } from "../config/flags.js";
import { resolveFinetuneConfig, type FinetuneConfig } from "../config/resolve.js";
import type { KeyName } from "../config/schema.js";
import { QdoraError } from "../formats/error.js";
import type { Gpu } from "../gpu/device.js";
import { videoMemory } from "../gpu/video_memory.js";
import { measureProductPeak, type ProductPeak } from "../kernels/product_peak.js";
import { openTrusted } from "../kernels/trusted_gpu.js";
import { GEOMETRIES } from "../model/geometries.js";
import { profileTable } from "../report/profile.js";
import { throughputJson, throughputTable, type ThroughputRow } from "../report/throughput.js";
import { memoryLimit } from "../train/memory.js";
import { measureThroughput, type Method } from "../train/throughput_bench.js";
import { choices, numbers } from "./bench_lists.js";
import { runCommand } from "./run_command.js";
import { localModel } from "./stoppable.js";

/** Keys of finetune that mean something for steps over random tokens. Length, batch, method and quant have lists instead. */
export const STEP_KEYS: readonly KeyName[] = [
  "double_quant",
  "quant_head",
  "compute_dtype",
  "use_rslora",
  "rank",
  "alpha",
  "target_modules",
  "exclude_modules",
  "rank_pattern",
  "alpha_pattern",
  "learning_rate",
  "weight_decay",
  "max_grad_norm",
  "optimizer",
  "seed",
  "gradient_checkpointing",
  "checkpoint_dtype",
  "checkpoint_place",
  "stream_layers",
  "layer_cache",
  "token_chunk",
  "memory_limit",
  "device",
  "tune",
];

/** Where nobody says how much a GPU has free. */
const UNKNOWN_GPU_BYTES = 4e9;
/** Of the free memory of a machine whose GPU is its CPU. */
const HOST_PART = 0.6;

async function sideBySideBytes(gpu: Gpu, limit: number | undefined): Promise<number> {
  if (limit !== undefined) return limit;
  if (gpu.traits.isSoftware) return Math.floor(freemem() * HOST_PART);
  return (await videoMemory())?.freeBytes ?? UNKNOWN_GPU_BYTES;
}

interface Asked {
  readonly geometries: readonly (string | undefined)[];
  readonly lengths: readonly number[];
  readonly batches: readonly number[];
  readonly methods: readonly Method[];
  readonly quants: readonly ("nf4" | "none")[];
  readonly steps: number;
  readonly json: boolean;
  readonly profile: boolean;
}

function asked(flags: Record<string, unknown>): Asked {
  const { geometry, lengths, batches, methods, quants, steps, json, profile } = flags;
  const [stepCount, ...more] = numbers("--steps", String(steps));
  if (stepCount === undefined || more.length > 0)
    throw new QdoraError("--steps", `got "${String(steps)}", expected one number`, undefined, {
      exitCode: 2,
    });
  return {
    geometries: typeof geometry === "string" ? choices("--geometry", geometry, GEOMETRIES) : [undefined],
    lengths: numbers("--lengths", String(lengths)),
    batches: numbers("--batches", String(batches)),
    methods: choices("--methods", String(methods), ["dora", "lora"]),
    quants: choices("--quants", String(quants), ["nf4", "none"]),
    steps: stepCount,
    json: json === true,
    profile: profile === true,
  };
}

const say = (line: string): void => void process.stderr.write(`${line}\n`);

async function measureAll(config: FinetuneConfig, what: Asked, gpu: Gpu): Promise<void> {
  const peak: ProductPeak = await measureProductPeak(gpu);
  const limit = await memoryLimit(config);
  const rows: ThroughputRow[] = [];
  for (const geometry of what.geometries) {
    const name = geometry ?? config.model_id ?? config.model;
    for (const max_seq_length of what.lengths) {
      for (const batch_size of what.batches) {
        for (const quant of what.quants) {
          const settings = { ...config, max_seq_length, batch_size, quant };
          const { methods, steps } = what;
          const sideBySide = await sideBySideBytes(gpu, limit);
          const measured = await measureThroughput(
            { geometry, settings, methods, steps, limit, sideBySideBytes: sideBySide },
            gpu,
            say,
          );
          for (const result of measured) {
            const row = { ...result, model: name, length: max_seq_length, batch: batch_size, quant, steps };
            rows.push(row);
            if (what.json)
              process.stdout.write(`${JSON.stringify(throughputJson(row, peak, gpu.traits.name))}\n`);
            if (what.profile) say(`${row.method} ${quant}\n${profileTable({ ...row.profile, peak })}`);
          }
        }
      }
    }
  }
  if (!what.json) process.stdout.write(`${throughputTable(rows, peak, gpu.traits.name)}\n`);
}

export function addThroughput(bench: Command): void {
  const command = bench
    .command("throughput")
    .description("tokens per second of real optimizer steps (one micro-batch each) over random tokens");
  addFinetuneFlags(command, ["revision", ...STEP_KEYS]);
  command
    .option("--model <model>", "real weights: a folder, or ORG/NAME of the Hub, which is pulled")
    .option(
      "--geometry <names>",
      `random weights of these shapes instead of --model: ${GEOMETRIES.join(", ")}`,
    )
    .option("--lengths <list>", "tokens of a row, comma-separated", "256")
    .option("--batches <list>", "rows of a micro-batch, comma-separated", "1")
    .option("--methods <list>", "dora, lora, comma-separated: they take turns, step by step", "dora,lora")
    .option("--quants <list>", "nf4, none, comma-separated", "nf4")
    .option("--steps <n>", "timed steps of each method, after one that compiles", "5")
    .option("--profile", "print a table of all kernels for each row, on stderr")
    .option("--json", "one JSON object per line on stdout instead of a Markdown table")
    .action((flags: Record<string, unknown>, self: Command) =>
      runCommand(self.optsWithGlobals()["debug"] === true, async () => {
        const what = asked(flags);
        const keys = Object.fromEntries(Object.entries(flags).filter(([name]) => !OWN.has(name)));
        const isGeometry = flags["geometry"] !== undefined;
        if (isGeometry === (flags["model"] !== undefined))
          throw new QdoraError(
            "bench throughput",
            isGeometry ? "got --model and --geometry" : "got neither --model nor --geometry",
            "give --model FOLDER for real weights or --geometry NAME for random ones",
            { exitCode: 2 },
          );
        const named = await resolveFinetuneConfig(keys, undefined, ["model", "data", "output_dir"]);
        let config: FinetuneConfig = named;
        if (!isGeometry) {
          const model = await localModel(named.model, named.revision);
          if ("exit" in model) return model.exit;
          config = { ...named, model: model.value.path, model_id: model.value.id };
        }
        const { gpu } = await openTrusted({ adapter: config.device }, say);
        try {
          await measureAll(config, what, gpu);
        } finally {
          await gpu.destroy();
        }
        return 0;
      }),
    );
}

/** Options that are not keys of finetune. */
const OWN: ReadonlySet<string> = new Set([
  "geometry",
  "lengths",
  "batches",
  "methods",
  "quants",
  "steps",
  "profile",
  "json",
]);
