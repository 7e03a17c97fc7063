/** One real optimizer step over random weights: proof that a plan is what a run allocates, for models of any size. */
import { makeMicroBatch } from "../data/batch.js";
import { randomSource } from "../model/random_source.js";
import { RandomSource } from "../program/random.js";
import { halfProductsOn, openRunGpu, withHalfProducts } from "./half_products.js";
import { fitMemory, memoryLimit } from "./memory.js";
import { geometryShape } from "./plan.js";
import { TrainingSession } from "./session.js";
import type { TrainingSettings } from "./settings.js";

export interface MeasuredStep {
  readonly planBytes: number;
  readonly ledgerPeakBytes: number;
  readonly hostPlanBytes: number;
  readonly weightBytes: number;
  readonly adapter: string;
  readonly isSoftware: boolean;
  readonly loadSeconds: number;
  readonly stepSeconds: number;
  readonly loss: number;
  readonly gradNorm: number;
}

/** Rows of the token stream of a seed. */
const TOKEN_STREAM = 2;

/**
 * Runs one optimizer step of one micro-batch, `batch_size` rows of `max_seq_length` random tokens.
 * @param weightBytes what the caller compares with
 */
export async function measureStep(
  geometry: string,
  settings: TrainingSettings,
  floor: (run: ReturnType<typeof fitMemory>) => number,
  say: (line: string) => void,
): Promise<MeasuredStep> {
  const shape = geometryShape(geometry, settings);
  const run = fitMemory(shape, settings, await memoryLimit(settings));
  const { arch, layout, capacity } = shape;
  const gpu = await openRunGpu(settings, say);
  try {
    const began = performance.now();
    const halfProducts = halfProductsOn(settings.compute_dtype, gpu.traits);
    const whole = { ...run, ...withHalfProducts(run, shape, halfProducts), settings, arch, layout, capacity };
    const source = randomSource(settings.seed);
    const session = await TrainingSession.open(whole, gpu, say, () => undefined, { source });
    const loaded = performance.now();
    const random = new RandomSource(settings.seed, TOKEN_STREAM);
    const rows = Array.from({ length: settings.batch_size }, () => {
      const inputIds = Int32Array.from({ length: settings.max_seq_length }, () =>
        random.nextBelow(arch.vocab),
      );
      return { inputIds, labels: inputIds, truncated: false, scored: settings.max_seq_length - 1 };
    });
    const { loss, gradNorm } = await session.step([makeMicroBatch(rows)], {
      step: 0,
      learningRate: settings.learning_rate,
      weightDecay: settings.weight_decay,
      maxGradNorm: settings.max_grad_norm,
    });
    const stepSeconds = (performance.now() - loaded) / 1000;
    const ledgerPeakBytes = gpu.ledger.peakBytes;
    await session.close();
    return {
      planBytes: run.plan.totalBytes,
      ledgerPeakBytes,
      hostPlanBytes: [...run.host.values()].reduce((a, b) => a + b, 0),
      weightBytes: floor(run),
      adapter: gpu.traits.name,
      isSoftware: gpu.traits.isSoftware,
      loadSeconds: (loaded - began) / 1000,
      stepSeconds,
      loss,
      gradNorm,
    };
  } finally {
    await gpu.destroy();
  }
}
