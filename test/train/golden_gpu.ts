/** A golden run through the same session that `qdora finetune` uses. */
import type { Gpu } from "../../src/gpu/device.js";
import type { FinetuneConfig } from "../../src/config/resolve.js";
import { prepareRun, type PreparedRun } from "../../src/train/prepare.js";
import { learningRateAt } from "../../src/train/schedule.js";
import { TrainingSession } from "../../src/train/session.js";
import { stepBatches } from "../../src/train/batches.js";
import type { Tensor } from "../../src/program/tensor.js";
import { byPeftName, type GoldenStep, type Values } from "./golden_run.js";

export interface GpuRun {
  readonly run: PreparedRun;
  readonly steps: readonly GoldenStep[];
  readonly gradients: Values;
  readonly adapter: Values;
  /** What the GPU ledger held while the run was open. */
  readonly ledgerBytes: number;
}

export async function trainOnGpu(config: FinetuneConfig, gpu: Gpu): Promise<GpuRun> {
  const run = await prepareRun(config);
  const before = gpu.ledger.bytes;
  const session = await TrainingSession.open(
    run,
    gpu,
    () => undefined,
    () => undefined,
  );
  const ledgerBytes = gpu.ledger.bytes - before;
  const read = async (tensors: ReadonlyMap<string, Tensor>): Promise<Values> => {
    const values = new Map<string, Float32Array>();
    for (const [name, t] of tensors) values.set(name, new Float32Array(await session.executor.read(t)));
    return values;
  };
  const steps: GoldenStep[] = [];
  let gradients: Values = new Map();
  for (let step = 0; step < run.totalSteps; step++) {
    const schedule = {
      scheduler: config.lr_scheduler,
      learningRate: config.learning_rate,
      warmupSteps: run.warmupSteps,
      totalSteps: run.totalSteps,
    };
    const learningRate = learningRateAt(schedule, step);
    const batches = stepBatches(run, step);
    await session.accumulate(batches, {
      step,
      learningRate,
      weightDecay: config.weight_decay,
      maxGradNorm: config.max_grad_norm,
    });
    if (step === 0) gradients = await read(byPeftName(run.layout, "gradients"));
    const { loss, gradNorm } = await session.update(batches);
    steps.push({ loss, grad_norm: gradNorm, learning_rate: learningRate });
  }
  const adapter = await read(byPeftName(run.layout, "parameters"));
  await session.close();
  return { run, steps, gradients, adapter, ledgerBytes };
}
