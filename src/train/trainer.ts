/** A training run from its settings to its adapter: prepares, opens the GPU, goes through the loop. It tells listeners and never prints. */
import type { FactorValues } from "../adapter/initial.js";
import { otherBaseWarning } from "../model/base_record.js";
import type { CheckpointStore } from "./checkpoint_store.js";
import type { Listener } from "./events.js";
import { openRunGpu, resumedHalfProducts, withHalfProducts } from "./half_products.js";
import { StoppedError, untilAborted, wasInterrupted } from "./interrupt.js";
import { trainingLoop } from "./loop.js";
import { START } from "./position.js";
import { hasHalfMatrices } from "../kernels/product_matrix.js";
import { measureProductPeak, type ProductPeak } from "../kernels/product_peak.js";
import { openTrusted } from "../kernels/trusted_gpu.js";
import { checkMemoryLimit, prepareRun, type PreparedRun } from "./prepare.js";
import type { MeasuredProfile, StepProfile } from "./profile.js";
import { checkTarget, restoreSession, resumedVariants } from "./restore.js";
import { TrainingSession } from "./session.js";
import type { TrainingSettings } from "./settings.js";

export interface TrainingResult {
  readonly run: PreparedRun;
  readonly steps: number;
  readonly adapter: ReadonlyMap<string, FactorValues>;
  /** Tells the base model that it was trained on; for `writeOutput`. */
  readonly baseNorms: string | undefined;
  readonly gpuPeakBytes: number;
  /** The adapter's GPU memory is the process's own. */
  readonly isSoftware: boolean;
  /** Where it was asked for and there was a step left to profile. */
  readonly profile: MeasuredProfile | undefined;
}

export interface TrainOptions {
  /** Time every call of one step, and before the run the adapter's best product. */
  readonly profile?: boolean;
}

/**
 * Trains an adapter. Files are the listeners' and the caller's business, but for the checkpoints.
 * @param signal stops the run within seconds, in every phase
 * @param store where checkpoints go and what the run goes on from; without one nothing is saved on the way
 * @throws StoppedError when the signal stopped it
 */
export async function train(
  settings: TrainingSettings,
  listen: Listener,
  signal?: AbortSignal,
  store?: CheckpointStore,
  options: TrainOptions = {},
): Promise<TrainingResult> {
  let isStarting = true;
  const onStarted = (): void => {
    isStarting = false;
  };
  try {
    return await startAndTrain(settings, listen, signal, store, options, onStarted);
  } catch (error) {
    if (!isStarting || !(await wasInterrupted(signal))) throw error;
    // Whatever else failed while it was starting, failed because it was stopped.
    throw new StoppedError(store?.resumed?.position.step ?? 0, store?.resumed?.folder);
  }
}

async function startAndTrain(
  settings: TrainingSettings,
  listen: Listener,
  signal: AbortSignal | undefined,
  store: CheckpointStore | undefined,
  options: TrainOptions,
  onStarted: () => void,
): Promise<TrainingResult> {
  const resumed = store?.resumed;
  for (const text of store?.notes ?? []) await listen({ type: "message", text });
  // A resumed run has its adapter; the one it began with may be gone.
  const run = await untilAborted(
    prepareRun(resumed ? { ...settings, init_adapter: undefined } : settings, signal),
    signal,
  );
  try {
    return await openAndTrain(run, listen, signal, store, options, onStarted);
  } finally {
    run.dataset.close();
  }
}

/** On a device of its own: its memory is gone before the run's is counted, and what fails, fails before the run. Matrices that are wrong do not count. */
async function productPeak(adapter: string | undefined): Promise<ProductPeak> {
  const { gpu } = await openTrusted({ adapter }, () => undefined);
  try {
    return await measureProductPeak(gpu);
  } finally {
    await gpu.destroy();
  }
}

async function openAndTrain(
  prepared: PreparedRun,
  listen: Listener,
  signal: AbortSignal | undefined,
  store: CheckpointStore | undefined,
  options: TrainOptions,
  onStarted: () => void,
): Promise<TrainingResult> {
  const resumed = store?.resumed;
  if (resumed) await checkTarget(resumed, prepared);
  for (const text of (await store?.checkData(prepared.dataset)) ?? [])
    await listen({ type: "message", text });
  const { init_adapter: initial, model } = prepared.settings;
  const warning = await otherBaseWarning(initial, model);
  if (warning !== undefined) await listen({ type: "message", text: warning });
  await listen({ type: "prepared", run: prepared });
  checkMemoryLimit(prepared);
  signal?.throwIfAborted();
  const peak = options.profile ? await productPeak(prepared.settings.device) : undefined;
  const say = (text: string): void => void listen({ type: "message", text });
  const gpu = await openRunGpu(prepared.settings, say);
  let session: TrainingSession | undefined;
  try {
    const { traits } = gpu;
    const halfProducts = resumedHalfProducts(prepared.settings.compute_dtype, traits, resumed);
    const run = { ...prepared, ...withHalfProducts(prepared, prepared.shape, halfProducts) };
    await listen({
      type: "gpu",
      name: traits.name,
      isSoftware: traits.isSoftware,
      halfProducts: halfProducts && hasHalfMatrices(traits),
    });
    const opened = performance.now();
    const variants = resumed && resumedVariants(resumed, run, traits.name, say);
    session = await TrainingSession.open(run, gpu, say, (bytes) => void listen({ type: "loading", bytes }), {
      variants,
      signal,
    });
    store?.checkModel(session.modelFingerprint);
    if (resumed) await restoreSession(resumed, session);
    signal?.throwIfAborted();
    await store?.claim();
    await listen({ type: "started", seconds: (performance.now() - opened) / 1000 });
    onStarted();
    let profile: StepProfile | undefined;
    const onProfile = options.profile ? (p: StepProfile): void => void (profile = p) : undefined;
    const from = resumed?.position ?? START;
    const end = await trainingLoop(run, session, from, listen, signal, store, onProfile);
    const adapter = await session.adapter();
    const { baseNorms } = session;
    const gpuPeakBytes = gpu.ledger.peakBytes;
    await session.close();
    const { isSoftware } = gpu.traits;
    const measured = profile && peak && { ...profile, peak };
    return { run, steps: end.step, adapter, baseNorms, gpuPeakBytes, isSoftware, profile: measured };
  } catch (error) {
    // A run that begins again does not find room for streamed layers that lie in the cache twice.
    await session?.abandon().catch(() => undefined);
    // What fails after the device was lost, fails because of it.
    await new Promise((resolve) => setImmediate(resolve));
    gpu.check();
    throw error;
  } finally {
    await gpu.destroy();
  }
}
