/** The whole of `qdora finetune` but for what it prints: pulls, trains, saves checkpoints, writes the output folder. */
import { join } from "node:path";
import { resolveFinetuneConfig, toYaml, type FinetuneConfig } from "../config/resolve.js";
import { isHubName } from "../data/hub_source.js";
import { parseSources } from "../data/sources.js";
import { QdoraError } from "../formats/error.js";
import { checkFreeSpace } from "../formats/disk_space.js";
import { writeFileAtomic } from "../formats/files.js";
import { modelFolder } from "../hub/model_folder.js";
import { pullDataset } from "../hub/pull.js";
import type { PullEvent } from "../hub/pull_options.js";
import { writeReport, type RunHistory } from "../report/html.js";
import {
  evaluationLine,
  metricsWriter,
  rollbackLine,
  stepLine,
  type MetricsLine,
  type MetricsWriter,
} from "../report/metrics.js";
import { mendMetrics } from "../report/metrics_mend.js";
import { CheckpointStore } from "../train/checkpoint_store.js";
import type { Listener, TrainingEvent } from "../train/events.js";
import {
  checkOutputFolder,
  CONFIG_FILE,
  METRICS_FILE,
  openOutputFolder,
  writeOutput,
} from "../train/output.js";
import type { MeasuredProfile } from "../train/profile.js";
import { outputBytes } from "../train/output_bytes.js";
import { withRestarts } from "../train/restarts.js";
import { train } from "../train/trainer.js";
import { asStopped } from "./stopped.js";

/** Every key that has a default may be left out; see README's table. */
export type FinetuneOptions = Pick<FinetuneConfig, "model" | "data" | "output_dir"> & {
  readonly [K in Exclude<keyof FinetuneConfig, "model_id" | "dry_run" | "memory_limit">]?:
    | FinetuneConfig[K]
    | undefined;
} & {
  /** Bytes, a size such as "8GB", or "auto". */
  readonly memory_limit?: number | string | undefined;
};

export type FinetuneEvent = TrainingEvent | { readonly type: "pull"; readonly event: PullEvent };

export interface FinetuneListening {
  /** Told what happens, in order; the run waits for it. */
  readonly onEvent?: ((event: FinetuneEvent) => void | Promise<void>) | undefined;
  /** Stops the run within seconds, in every phase; what was trained is in a checkpoint then. */
  readonly signal?: AbortSignal | undefined;
  /** Times every kernel of the run's second step. */
  readonly profile?: boolean | undefined;
}

export interface FinetuneResult {
  /** The folder of the adapter. */
  readonly outputDir: string;
  /** Optimizer steps, with those before a resume. */
  readonly steps: number;
  /** Of the last step that was trained. */
  readonly loss: number | undefined;
  /** The last mean loss over held-out rows, where there are some. */
  readonly evalLoss: number | undefined;
  readonly gpuPeakBytes: number;
  /** What counts as GPU memory is memory of this process. */
  readonly isSoftware: boolean;
  /** Where it was asked for and there was a step left to profile. */
  readonly profile: MeasuredProfile | undefined;
}

/**
 * Trains an adapter as `qdora finetune` does, models and data sets of the Hub included. It prints nothing.
 * @param options the keys of `finetune`
 * @throws QdoraError; StoppedError when the signal stopped it
 */
export async function finetune(
  options: FinetuneOptions,
  { onEvent, signal, profile }: FinetuneListening = {},
): Promise<FinetuneResult> {
  const given: Readonly<Record<string, unknown>> = { ...options };
  if (given["dry_run"] !== undefined)
    throw new QdoraError("dry_run", "is for the command line", "call plan()", { exitCode: 2 });
  const named = await resolveFinetuneConfig(given);
  const listen = (event: PullEvent): void => void onEvent?.({ type: "pull", event });
  const model = await asStopped(signal, async () => {
    const folder = await modelFolder(named.model, { revision: named.revision, signal, listen });
    for (const { path } of parseSources(named.data))
      if (isHubName(path)) await pullDataset(path, { signal, listen });
    return folder;
  });
  return runFinetune({ ...named, model: model.path, model_id: model.id }, { onEvent, signal, profile });
}

/**
 * The same once model and data are on this disk. A run whose GPU is lost goes on by itself.
 * @throws QdoraError; StoppedError when the signal stopped it
 */
export async function runFinetune(
  config: FinetuneConfig,
  { onEvent = () => undefined, signal, profile = false }: FinetuneListening,
): Promise<FinetuneResult> {
  await checkOutputFolder(config);
  let attempt = config;
  const onStarted = (): void => {
    // From here on the folder's checkpoints are this run's own.
    attempt = { ...config, resume: true };
  };
  const say = (text: string): void => void onEvent({ type: "message", text });
  return asStopped(signal, () =>
    withRestarts(() => runOnce(attempt, { onEvent, signal, profile, onStarted }), { say, signal }),
  );
}

interface Attempt {
  readonly onEvent: Listener;
  readonly signal: AbortSignal | undefined;
  readonly profile: boolean;
  readonly onStarted: () => void;
}

const kindOf = (line: MetricsLine): keyof RunHistory =>
  "rollback" in line ? "rollbacks" : "eval_loss" in line ? "evaluations" : "steps";

/** Runs the training with the files that listen to it, and writes the output folder at its regular end. */
async function runOnce(
  config: FinetuneConfig,
  { onEvent, signal, profile, onStarted }: Attempt,
): Promise<FinetuneResult> {
  const store = await CheckpointStore.open(config, signal);
  const metricsPath = join(config.output_dir, METRICS_FILE);
  const history: RunHistory = { steps: [], evaluations: [], rollbacks: [] };
  let metrics: MetricsWriter | undefined;
  /** Forgets what came after a step. */
  const goBack = async (step: number, evaluationPending: boolean, rollbacks: number): Promise<void> => {
    for (const kind of ["steps", "evaluations", "rollbacks"] as const) history[kind].length = 0;
    for (const line of await mendMetrics(metricsPath, step, evaluationPending, rollbacks))
      history[kindOf(line)].push(line);
  };
  const listen: Listener = async (event) => {
    if (event.type === "prepared") await checkFreeSpace(config.output_dir, outputBytes(event.run.layout));
    if (event.type === "started") {
      // Files appear once the run can really start, so that a refused run leaves nothing behind.
      const from = store.resumed?.position;
      await openOutputFolder(config.output_dir, from !== undefined);
      await writeFileAtomic(join(config.output_dir, CONFIG_FILE), toYaml(config));
      if (from) await goBack(from.step, from.evaluation_pending, from.rollbacks.length);
      metrics = metricsWriter(metricsPath, from !== undefined);
      onStarted();
    }
    if (event.type === "rollback") {
      metrics?.close();
      metrics = undefined;
      await goBack(event.to, false, event.count - 1);
      metrics = metricsWriter(metricsPath, true);
      history.rollbacks.push(rollbackLine(event));
    }
    if (event.type === "step") history.steps.push(stepLine(event));
    if (event.type === "evaluation") history.evaluations.push(evaluationLine(event));
    await metrics?.listen(event);
    await onEvent(event);
  };
  try {
    const trained = await train(config, listen, signal, store, { profile });
    const { run, adapter, steps, baseNorms, gpuPeakBytes, isSoftware } = trained;
    const loss = history.steps.at(-1)?.["loss"];
    await writeOutput(run, adapter, loss, baseNorms);
    await writeReport(join(config.output_dir, "report.html"), run, history);
    const evalLoss = history.evaluations.at(-1)?.["eval_loss"];
    return {
      outputDir: config.output_dir,
      steps,
      loss,
      evalLoss,
      gpuPeakBytes,
      isSoftware,
      profile: trained.profile,
    };
  } finally {
    metrics?.close();
    store.close();
  }
}
