/** `qdora finetune`: data in, PEFT adapter out. */
import type { Command } from "commander";
import { addFinetuneFlags } from "../config/flags.js";
import { resolveFinetuneConfig, type FinetuneConfig } from "../config/resolve.js";
import { QdoraError } from "../formats/error.js";
import { runFinetune, type FinetuneEvent, type FinetuneResult } from "../jobs/finetune.js";
import { brokenWords } from "../report/data_report.js";
import { formatBytes } from "../formats/bytes.js";
import { planJson, planTable } from "../report/plan.js";
import { keepYoungSpaceSmall, peakResidentBytes } from "../report/process_memory.js";
import { progressPrinter } from "../report/progress.js";
import { StoppedError } from "../train/interrupt.js";
import { checkOutputFolder } from "../train/output.js";
import { checkMemoryLimit, prepareRun, type PreparedRun } from "../train/prepare.js";
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
function memoryLine({ gpuPeakBytes, isSoftware }: FinetuneResult): string {
  const peak = peakResidentBytes();
  const host = isSoftware ? `, ${formatBytes(Math.max(0, peak - gpuPeakBytes))} of it beside the GPU's` : "";
  return `memory: GPU ${formatBytes(gpuPeakBytes)}, process peak ${formatBytes(peak)}${host}`;
}

/** Trains to the end and shows how. */
async function trainAndShow(
  config: FinetuneConfig,
  profiling: Profiling,
  signal: AbortSignal,
): Promise<void> {
  const print = progressPrinter(process.stderr);
  const onEvent = (event: FinetuneEvent): void | Promise<void> => {
    if (event.type === "pull") return;
    if (event.type === "prepared") process.stderr.write(`${describeRun(event.run)}\n`);
    return print(event);
  };
  const result = await runFinetune(config, { onEvent, signal, profile: profiling.profile });
  process.stderr.write(`adapter: ${result.outputDir}\n${memoryLine(result)}\n`);
  await reportProfile(result, profiling);
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
        if (json === true && !named.dry_run)
          throw new QdoraError(
            "--json",
            "prints the plan of --dry-run, and this run is none",
            "add --dry-run, or leave --json out: a run's numbers are in metrics.jsonl of its output_dir",
            { exitCode: 2 },
          );
        const model = await localModel(named.model, named.revision);
        if ("exit" in model) return model.exit;
        const data = await localData(named.data);
        if ("exit" in data) return data.exit;
        const config = { ...named, model: model.value.path, model_id: model.value.id };
        if (config.dry_run && profiling.profile)
          throw new QdoraError(
            "--profile",
            "times a run, and --dry-run makes none",
            "leave one of them out",
            {
              exitCode: 2,
            },
          );
        if (config.dry_run) return dryRun(config, json === true);
        keepYoungSpaceSmall();
        return obeySignals(debug, (signal) => trainAndShow(config, profiling, signal));
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
    if (!(error instanceof StoppedError)) throw error;
    reportError(error, debug);
    const code = SIGNAL_EXIT[name] ?? 1;
    setTimeout(() => process.exit(code), PATIENCE_MS).unref();
    return code;
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}
