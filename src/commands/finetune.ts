/** `qdora finetune`: data in, PEFT adapter out. */
import { join } from "node:path";
import type { Command } from "commander";
import { addFinetuneFlags } from "../config/flags.js";
import { resolveFinetuneConfig, toYaml, type FinetuneConfig } from "../config/resolve.js";
import { writeFileAtomic } from "../formats/files.js";
import { brokenWords } from "../report/data_report.js";
import { formatBytes } from "../report/format.js";
import { metricsWriter } from "../report/metrics.js";
import { planJson, planTable } from "../report/plan.js";
import { peakResidentBytes } from "../report/process_memory.js";
import { progressPrinter } from "../report/progress.js";
import { writeReport } from "../report/html.js";
import type { Listener, StepEvent, TrainingEvent } from "../train/events.js";
import { checkOutputFolder, CONFIG_FILE, openOutputFolder, writeOutput } from "../train/output.js";
import { checkMemoryLimit, prepareRun, type PreparedRun } from "../train/prepare.js";
import { StoppedError, train, type TrainingResult } from "../train/trainer.js";
import { runCommand, SIGNAL_EXIT, reportError } from "./run_command.js";
import { localData, localModel } from "./stoppable.js";

/** What the data became: shown before anything is loaded. */
function describeRun(run: PreparedRun): string {
  const { counts } = run.dataset;
  const extra = [
    counts.truncated > 0 ? `${counts.truncated} cut to max_seq_length` : "",
    counts.unscored > 0 ? `${counts.unscored} without a scored label` : "",
    run.dataset.validation.length > 0 ? `${run.dataset.validation.length} held out` : "",
  ].filter(Boolean);
  const { broken } = run.dataset;
  const skipped = broken.count === 0 ? [] : [`skipped: ${brokenWords(broken)}`];
  return [
    `data: ${counts.rows} rows, ${counts.tokens.toLocaleString("en-US")} tokens, ${counts.scoredTokens.toLocaleString("en-US")} scored${extra.length > 0 ? ` (${extra.join(", ")})` : ""}`,
    ...skipped,
    `adapter: ${run.layout.parameterCount.toLocaleString("en-US")} parameters in ${run.layout.modules.size} modules`,
    `steps: ${run.totalSteps}, micro-batches of up to ${run.capacity} tokens`,
    `memory on the GPU (exact): ${formatBytes(run.plan.totalBytes)}`,
    planTable(run.plan),
    ...(run.host.size > 0
      ? [`on the host: ${[...run.host].map(([what, bytes]) => `${what} ${formatBytes(bytes)}`).join(", ")}`]
      : []),
  ].join("\n");
}

async function dryRun(config: FinetuneConfig, json: boolean): Promise<void> {
  await checkOutputFolder(config);
  const run = await prepareRun(config);
  run.dataset.close();
  process.stderr.write(`${describeRun(run)}\n`);
  checkMemoryLimit(run);
  if (!json) return;
  const { limit } = run;
  const { model: name } = config;
  process.stdout.write(
    `${JSON.stringify(planJson({ name, config, shape: run.shape, run, limit, savings: [] }))}\n`,
  );
}

/** What the run took: on a software adapter, what counts as GPU memory is part of the process. */
function memoryLine({ gpuPeakBytes, isSoftware }: TrainingResult): string {
  const peak = peakResidentBytes();
  const host = isSoftware ? `, ${formatBytes(Math.max(0, peak - gpuPeakBytes))} of it beside the GPU's` : "";
  return `memory: GPU ${formatBytes(gpuPeakBytes)}, process peak ${formatBytes(peak)}${host}`;
}

/** Runs the training with everything that listens to it, and writes the output folder at its regular end. */
async function finetune(config: FinetuneConfig, signal: AbortSignal): Promise<void> {
  await checkOutputFolder(config);
  const print = progressPrinter(process.stderr);
  const steps: StepEvent[] = [];
  const evaluations: Extract<TrainingEvent, { type: "evaluation" }>[] = [];
  let metrics: ReturnType<typeof metricsWriter> | undefined;
  const listen: Listener = async (event) => {
    if (event.type === "prepared") {
      process.stderr.write(`${describeRun(event.run)}\n`);
      return;
    }
    if (event.type === "started") {
      // The folder appears once the run can really start, so that a refused run leaves nothing behind.
      await openOutputFolder(config.output_dir);
      await writeFileAtomic(join(config.output_dir, CONFIG_FILE), toYaml(config));
      metrics = metricsWriter(join(config.output_dir, "metrics.jsonl"));
    }
    if (event.type === "step") steps.push(event);
    if (event.type === "evaluation") evaluations.push(event);
    await metrics?.listen(event);
    await print(event);
  };
  try {
    const result = await train(config, listen, signal);
    await writeOutput(result.run, result.adapter, steps.at(-1)?.loss);
    await writeReport(join(config.output_dir, "report.html"), result.run, steps, evaluations);
    process.stderr.write(`adapter: ${config.output_dir}\n`);
    process.stderr.write(`${memoryLine(result)}\n`);
  } finally {
    metrics?.close();
  }
}

export function addFinetune(program: Command): void {
  const command = program
    .command("finetune")
    .description("train a QDoRA, DoRA or LoRA adapter on a model, from a folder or from the Hub");
  addFinetuneFlags(command);
  command
    .option("--config <file>", "YAML file with the same keys in snake_case; flags win over it")
    .option("--json", "with --dry-run: the memory plan as one JSON object on stdout")
    .action((flags: Record<string, unknown>, self: Command) => {
      const debug = self.optsWithGlobals()["debug"] === true;
      return runCommand(debug, async () => {
        const { config: file, json, ...keys } = flags;
        const named = await resolveFinetuneConfig(keys, typeof file === "string" ? file : undefined);
        const model = await localModel(named.model, named.revision);
        if ("exit" in model) return model.exit;
        const data = await localData(named.data);
        if ("exit" in data) return data.exit;
        const config = { ...named, model: model.value.path, model_id: model.value.id };
        if (config.dry_run) return dryRun(config, json === true);
        return obeySignals(debug, (signal) => finetune(config, signal));
      });
    });
}

/** The first SIGINT or SIGTERM ends the run after its step, the second at once. */
async function obeySignals(
  debug: boolean,
  body: (signal: AbortSignal) => Promise<void>,
): Promise<number | void> {
  const controller = new AbortController();
  let name = "";
  const stop = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(SIGNAL_EXIT[signal] ?? 1);
    name = signal;
    process.stderr.write(`\n${signal}: stopping after this step (again: at once)\n`);
    controller.abort();
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  try {
    await body(controller.signal);
    return;
  } catch (error) {
    if (!(error instanceof StoppedError)) throw error;
    reportError(error, debug);
    return SIGNAL_EXIT[name] ?? 1;
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}
