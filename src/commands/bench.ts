/** `qdora bench`: what this machine really needs and does, with random weights: nothing is downloaded. */
import type { Command } from "commander";
import { resolveFinetuneConfig, type FinetuneConfig } from "../config/resolve.js";
import { addFinetuneFlags } from "../config/flags.js";
import { GEOMETRIES } from "../model/geometries.js";
import { formatBytes } from "../formats/bytes.js";
import { floorBytes } from "../report/plan.js";
import { peakResidentBytes, resetPeak } from "../report/process_memory.js";
import { measureStep, type MeasuredStep } from "../train/memory_bench.js";
import { choices, numbers } from "./bench_lists.js";
import { addThroughput, STEP_KEYS } from "./bench_throughput.js";
import { runCommand } from "./run_command.js";

interface Row extends MeasuredStep {
  readonly geometry: string;
  readonly method: string;
  readonly length: number;
  readonly batch: number;
  /** Process peak less what a software adapter counts as GPU memory. */
  readonly hostPeakBytes: number;
  readonly processPeakBytes: number;
}

async function measure(
  config: FinetuneConfig,
  what: Pick<Row, "geometry" | "method" | "length" | "batch">,
): Promise<Row> {
  const settings = {
    ...config,
    use_dora: what.method === "dora",
    max_seq_length: what.length,
    batch_size: what.batch,
  };
  resetPeak();
  const before = peakResidentBytes();
  const say = (line: string): void => void process.stderr.write(`${line}\n`);
  const step = await measureStep(what.geometry, settings, floorBytes, say);
  const processPeakBytes = peakResidentBytes();
  const gpuOnHost = step.isSoftware ? step.ledgerPeakBytes : 0;
  const hostPeakBytes = Math.max(0, processPeakBytes - before - gpuOnHost);
  return { ...what, ...step, processPeakBytes, hostPeakBytes };
}

function markdown(rows: readonly Row[]): string {
  const head =
    "| geometry | method | tokens | plan | ledger peak | frozen weights | ratio | process peak | host above | s / step | loss | grad norm |";
  const line = "|---|---|---|---|---|---|---|---|---|---|---|---|";
  return [
    head,
    line,
    ...rows.map(
      (r) =>
        `| ${r.geometry} | ${r.method} | ${r.batch} x ${r.length} | ${formatBytes(r.planBytes)} | ${formatBytes(r.ledgerPeakBytes)}${r.ledgerPeakBytes === r.planBytes ? " =" : " DIFFERS"} | ${formatBytes(r.weightBytes)} | ${(r.ledgerPeakBytes / r.weightBytes).toFixed(2)} | ${formatBytes(r.processPeakBytes)} | ${formatBytes(r.hostPeakBytes)} | ${r.stepSeconds.toFixed(1)} | ${r.loss.toFixed(3)} | ${r.gradNorm.toPrecision(3)} |`,
    ),
  ].join("\n");
}

export function addBench(program: Command): void {
  const bench = program
    .command("bench")
    .description("measure this machine with random weights; nothing is downloaded");
  const memory = bench
    .command("memory")
    .description(
      "one real optimizer step for each geometry, length, batch and method: plan against what was allocated",
    );
  addThroughput(bench);
  addFinetuneFlags(memory, ["quant", ...STEP_KEYS]);
  memory
    .requiredOption("--geometry <names>", `comma-separated: ${GEOMETRIES.join(", ")}`)
    .option("--lengths <list>", "tokens of a row, comma-separated", "256")
    .option("--batches <list>", "rows of a micro-batch, comma-separated", "1")
    .option("--methods <list>", "dora, lora, comma-separated", "dora,lora")
    .option("--json", "one JSON object per line on stdout instead of a Markdown table")
    .action((flags: Record<string, unknown>, self: Command) =>
      runCommand(self.optsWithGlobals()["debug"] === true, async () => {
        const { geometry, lengths, batches, methods, json, ...keys } = flags;
        const config = await resolveFinetuneConfig(keys, undefined, ["model", "data", "output_dir"]);
        const rows: Row[] = [];
        for (const name of choices("--geometry", String(geometry), GEOMETRIES)) {
          for (const length of numbers("--lengths", String(lengths))) {
            for (const batch of numbers("--batches", String(batches))) {
              for (const method of choices("--methods", String(methods), ["dora", "lora"])) {
                const row = await measure(config, { geometry: name, method, length, batch });
                rows.push(row);
                if (json === true) process.stdout.write(`${JSON.stringify(row)}\n`);
              }
            }
          }
        }
        if (json !== true) process.stdout.write(`${markdown(rows)}\n`);
        return rows.every((r) => r.ledgerPeakBytes === r.planBytes) ? 0 : 1;
      }),
    );
}
