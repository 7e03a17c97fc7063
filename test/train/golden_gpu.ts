/** A golden run through the same session that `qdora finetune` uses. */
import type { Gpu } from "../../src/gpu/device.js";
import type { FinetuneConfig } from "../../src/config/resolve.js";
import { prepareRun, type PreparedRun } from "../../src/train/prepare.js";
import { TrainingSession } from "../../src/train/session.js";
import { stepBatches } from "../../src/train/batches.js";
import type { Executor } from "../../src/program/executor.js";
import type { Program } from "../../src/program/kernel.js";
import type { Tensor } from "../../src/program/tensor.js";
import { byPeftName, goldenRate, type GoldenStep, type Values } from "./golden_run.js";

export interface GpuRun {
  readonly run: PreparedRun;
  readonly steps: readonly GoldenStep[];
  /** Where rows are held out: the first step's loss by the evaluation program, before that step. */
  readonly evaluated: number | undefined;
  readonly gradients: Values;
  readonly adapter: Values;
  /** What the GPU ledger held while the run was open. */
  readonly ledgerBytes: number;
  /** "kernel/variant" of all calls. */
  readonly ran: ReadonlySet<string>;
}

/** "kernel/variant" of each call of a loaded program. */
export const variantsOf = (executor: Executor, { name, calls }: Program): readonly string[] =>
  executor.variants(name).flatMap((variant, i) => {
    const kernel = calls[i]?.kernel;
    return kernel && !kernel.transfer ? [`${kernel.name}/${variant}`] : [];
  });

/** @param most steps after which it ends, on the way to the run's own */
export async function trainOnGpu(config: FinetuneConfig, gpu: Gpu, most = Infinity): Promise<GpuRun> {
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
    for (const [name, t] of tensors) values.set(name, new Float32Array(await session.memory.read(t)));
    return values;
  };
  const steps: GoldenStep[] = [];
  const evaluated = run.shape.evaluates ? await session.evaluate(stepBatches(run, 0)) : undefined;
  let gradients: Values = new Map();
  for (let step = 0; step < Math.min(run.totalSteps, most); step++) {
    const learningRate = goldenRate(config, run, step);
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
  const ran = new Set(run.programs.flatMap((p) => variantsOf(session.executor, p)));
  await session.close();
  return { run, steps, evaluated, gradients, adapter, ledgerBytes, ran };
}
