/** `qdora finetune`: data in, PEFT adapter out. */
import { join } from "node:path";
import type { Command } from "commander";
import { addFinetuneFlags } from "../config/flags.js";
import { resolveFinetuneConfig, toYaml, type FinetuneConfig } from "../config/resolve.js";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { brokenWords } from "../report/data_report.js";
import { formatBytes } from "../report/format.js";
import { evaluationLine, metricsWriter, stepLine, type MetricsWriter } from "../report/metrics.js";
import { mendMetrics } from "../report/metrics_mend.js";
import { planJson, planTable } from "../report/plan.js";
import { peakResidentBytes } from "../report/process_memory.js";
import { progressPrinter } from "../report/progress.js";
import { writeReport, type RunHistory } from "../report/html.js";
import { CheckpointStore } from "../train/checkpoint_store.js";
import type { Listener } from "../train/events.js";
import { StoppedError } from "../train/interrupt.js";
import {
  checkOutputFolder,
  CONFIG_FILE,
  METRICS_FILE,
  openOutputFolder,
  writeOutput,
} from "../train/output.js";
import { checkMemoryLimit, prepareRun, type PreparedRun } from "../train/prepare.js";
import { withRestarts } from "../train/restarts.js";
import { train, type TrainingResult } from "../train/trainer.js";
import { checkProfiling, reportProfile, type Profiling } from "./profiling.js";
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

/** Trains to the end, also if the GPU is lost on the way. */
async function finetune(config: FinetuneConfig, profiling: Profiling, signal: AbortSignal): Promise<void> {
  await checkOutputFolder(config);
  let attempt = config;
  const onStarted = (): void => {
    // From here on the folder's checkpoints are this run's own.
    attempt = { ...config, resume: true };
  };
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  await withRestarts(() => runOnce(attempt, profiling, signal, onStarted), { say, signal });
}

/** Runs the training with everything that listens to it, and writes the output folder at its regular end. */
async function runOnce(
  config: FinetuneConfig,
  profiling: Profiling,
  signal: AbortSignal,
  onStarted: () => void,
): Promise<void> {
  const store = await CheckpointStore.open(config, signal);
  const metricsPath = join(config.output_dir, METRICS_FILE);
  const print = progressPrinter(process.stderr);
  const history: RunHistory = { steps: [], evaluations: [] };
  let metrics: MetricsWriter | undefined;
  const listen: Listener = async (event) => {
    if (event.type === "prepared") {
      process.stderr.write(`${describeRun(event.run)}\n`);
      return;
    }
    if (event.type === "started") {
      // Files appear once the run can really start, so that a refused run leaves nothing behind.
      const from = store.resumed?.position;
      await openOutputFolder(config.output_dir, from !== undefined);
      await writeFileAtomic(join(config.output_dir, CONFIG_FILE), toYaml(config));
      if (from) {
        const lines = await mendMetrics(metricsPath, from.step, from.evaluation_pending);
        for (const line of lines)
          history[line["eval_loss"] === undefined ? "steps" : "evaluations"].push(line);
      }
      metrics = metricsWriter(metricsPath, from !== undefined);
      onStarted();
    }
    if (event.type === "step") history.steps.push(stepLine(event));
    if (event.type === "evaluation") history.evaluations.push(evaluationLine(event));
    await metrics?.listen(event);
    await print(event);
  };
  try {
    const result = await train(config, listen, signal, store, { profile: profiling.profile });
    await writeOutput(result.run, result.adapter, history.steps.at(-1)?.["loss"]);
    await writeReport(join(config.output_dir, "report.html"), result.run, history);
    process.stderr.write(`adapter: ${config.output_dir}\n`);
    process.stderr.write(`${memoryLine(result)}\n`);
    await reportProfile(result, profiling);
  } finally {
    metrics?.close();
    store.close();
  }
}

export function addFinetune(program: Command): void {
  const command = program
    .command("finetune")
    .description("train a QDoRA, DoRA or LoRA adapter on a model, from a folder or from the Hub");
  addFinetuneFlags(command);
  command
    .option("--config <file>", "YAML file with the same keys in snake_case; flags win over it")
    .option("--profile", "time every kernel of the run's second step and print a table at the end")
    .option("--profile-trace <file>", "write those times as a trace for chrome://tracing, too")
    .option("--json", "with --dry-run: the memory plan as one JSON object on stdout")
    .action((flags: Record<string, unknown>, self: Command) => {
      const debug = self.optsWithGlobals()["debug"] === true;
      return runCommand(debug, async () => {
        const { config: file, json, profile, profileTrace, ...keys } = flags;
        const profiling = await checkProfiling(profile === true, profileTrace);
        const named = await resolveFinetuneConfig(keys, typeof file === "string" ? file : undefined);
        if (named.dry_run && profiling.profile)
          throw new QdoraError(
            "--profile",
            "times a run, and --dry-run makes none",
            "leave one of them out",
            {
              exitCode: 2,
            },
          );
        const model = await localModel(named.model, named.revision);
        if ("exit" in model) return model.exit;
        const data = await localData(named.data);
        if ("exit" in data) return data.exit;
        const config = { ...named, model: model.value.path, model_id: model.value.id };
        if (config.dry_run) return dryRun(config, json === true);
        return obeySignals(debug, (signal) => finetune(config, profiling, signal));
      });
    });
}

/** After the first signal, work that cannot be interrupted (reading a large data set) has this long to end by itself. */
const PATIENCE_MS = 1000;

/** The first SIGINT or SIGTERM saves and ends the run, the second ends it at once. */
async function obeySignals(
  debug: boolean,
  body: (signal: AbortSignal) => Promise<void>,
): Promise<number | void> {
  const controller = new AbortController();
  let name = "";
  const stop = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(SIGNAL_EXIT[signal] ?? 1);
    name = signal;
    process.stderr.write(`\n${signal}: saving and stopping (again: at once)\n`);
    controller.abort();
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  try {
    await body(controller.signal);
    return;
  } catch (error) {
    const isEarly = error === controller.signal.reason;
    if (!(error instanceof StoppedError) && !isEarly) throw error;
    reportError(isEarly ? new StoppedError(0, undefined) : error, debug);
    const code = SIGNAL_EXIT[name] ?? 1;
    setTimeout(() => process.exit(code), PATIENCE_MS).unref();
    return code;
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}
