/**
 * Speed of real optimizer steps, method against method: sessions lie side by side on one GPU and take turns, so that the
 * machine's moods hit all of them. Where both do not fit, one after the other. Tokens are random; weights are a model's or random.
 */
import { makeMicroBatch, type MicroBatch } from "../data/batch.js";
import { formatBytes } from "../formats/bytes.js";
import { QdoraError } from "../formats/error.js";
import type { Gpu } from "../gpu/device.js";
import { waitedMs } from "../gpu/wait.js";
import { randomSource } from "../model/random_source.js";
import { folderSource, type ModelSource } from "../model/source.js";
import { RandomSource } from "../program/random.js";
import { fitMemory, type RunShape } from "./memory.js";
import { geometryShape, shapeOf } from "./plan.js";
import { readModel } from "./prepare.js";
import { measureOverheads } from "./efficiency.js";
import { halfProductsOn, withHalfProducts } from "./half_products.js";
import { median } from "./median.js";
import { dispatchCount, productShare, profiled, type StepProfile } from "./profile.js";
import type { SessionRun } from "./prepare.js";
import { TrainingSession } from "./session.js";
import type { TrainingSettings } from "./settings.js";

export type Method = "dora" | "lora";

/** What the steps of one comparison have in common. */
export interface ThroughputCase {
  /** A geometry with random weights; undefined: `settings.model` is a folder. */
  readonly geometry: string | undefined;
  readonly settings: TrainingSettings;
  readonly methods: readonly Method[];
  /** Timed steps of each method, after one that compiles. */
  readonly steps: number;
  /** GPU bytes that may be used. */
  readonly limit: number | undefined;
  /** GPU bytes up to which methods lie side by side. */
  readonly sideBySideBytes: number;
}

export interface Throughput {
  readonly method: Method;
  /** Of an optimizer step, which here is one micro-batch. */
  readonly tokens: number;
  /** Median of the timed steps. */
  readonly stepSeconds: number;
  readonly tokensPerSecond: number;
  /** Of the time of all calls of one more step, timed one by one. */
  readonly productShare: number;
  /** Time that its products would take alone over the time of the step (`efficiency.ts`). */
  readonly stepEfficiency: number;
  /** Of a step. */
  readonly dispatches: number;
  /** Time of as many empty dispatches over the time of the step. */
  readonly dispatchShare: number;
  /** Median time of a step in which the host worked and did not wait for the GPU. */
  readonly hostMs: number;
  /** Of the last timed step. */
  readonly loss: number;
  readonly gradNorm: number;
  readonly planBytes: number;
  /** Step time in units of LoRA's: median of the rounds' ratios; there where both methods run. */
  readonly timeOverLora: number | undefined;
  /** Whether the methods took turns; else they ran one after the other. */
  readonly interleaved: boolean;
  readonly profile: StepProfile;
}

/** Rows of the token stream of a seed. */
const TOKEN_STREAM = 2;

interface Planned {
  readonly method: Method;
  readonly shape: RunShape;
  readonly run: SessionRun;
}

interface Side extends Omit<Planned, "shape"> {
  readonly session: TrainingSession;
  readonly times: number[];
  readonly hostTimes: number[];
  step: number;
  loss: number;
  gradNorm: number;
}

/** Measures every method of a case. @throws QdoraError where it does not fit the limit */
export async function measureThroughput(
  what: ThroughputCase,
  gpu: Gpu,
  say: (line: string) => void,
): Promise<readonly Throughput[]> {
  const planned: Planned[] = [];
  for (const method of what.methods) planned.push({ method, ...(await planRun(what, method)) });
  const together = planned.reduce((sum, { run }) => sum + run.plan.totalBytes, 0);
  const interleaved = planned.length > 1 && together <= what.sideBySideBytes;
  if (planned.length > 1 && !interleaved)
    say(`${together} bytes for all methods at once (limit ${what.sideBySideBytes}): one after the other`);
  const groups = interleaved ? [planned] : planned.map((one) => [one]);
  const results: Omit<Throughput, "timeOverLora">[] = [];
  const times = new Map<Method, readonly number[]>();
  for (const group of groups) {
    for (const side of await measureGroup(group, what, gpu, say)) {
      times.set(side.method, side.times);
      results.push({ ...side.result, interleaved });
    }
  }
  const lora = times.get("lora");
  return results.map((result) => {
    const own = times.get(result.method) ?? [];
    const ratios = own.map((ms, i) => ms / (lora?.[i] ?? NaN));
    const timeOverLora = lora && lora !== own ? median(ratios) : undefined;
    return { ...result, timeOverLora };
  });
}

/** The shape and plan of a run with micro-batches as large as the settings say. */
async function planRun(what: ThroughputCase, method: Method): Promise<Omit<Planned, "method">> {
  const settings = { ...what.settings, use_dora: method === "dora" };
  const shape: RunShape =
    what.geometry === undefined
      ? shapeOf(await readModel(settings), settings)
      : geometryShape(what.geometry, settings);
  const run = fitMemory(shape, settings, what.limit);
  if (what.limit !== undefined && run.plan.totalBytes > what.limit)
    throw new QdoraError(
      "memory_limit",
      `${method} with ${shape.capacity} tokens needs ${formatBytes(run.plan.totalBytes)} on the GPU (limit ${formatBytes(what.limit)})`,
      "measure shorter --lengths, fewer --batches or a smaller model",
    );
  const { arch, layout, capacity } = shape;
  return { shape, run: { ...run, settings, arch, layout, capacity } };
}

async function measureGroup(
  group: readonly Planned[],
  what: ThroughputCase,
  gpu: Gpu,
  say: (line: string) => void,
) {
  const { settings, geometry, steps } = what;
  const sides: Side[] = [];
  try {
    for (const { method, run: planned, shape } of group) {
      const halfProducts = halfProductsOn(settings.compute_dtype, gpu.traits);
      const run = { ...planned, ...withHalfProducts(planned, shape, halfProducts) };
      const source: ModelSource =
        geometry === undefined ? folderSource(settings.model) : randomSource(settings.seed);
      const session = await TrainingSession.open(run, gpu, say, () => undefined, { source });
      sides.push({ method, run, session, times: [], hostTimes: [], step: 0, loss: NaN, gradNorm: NaN });
    }
    const batch = randomBatch(settings, group[0]?.run.arch.vocab ?? 1);
    for (const side of sides) await takeStep(side, batch);
    for (let round = 0; round < steps; round++) {
      for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
        await side.session.executor.idle();
        const [began, waitedBefore] = [performance.now(), waitedMs()];
        await takeStep(side, batch);
        const ms = performance.now() - began;
        side.times.push(ms);
        side.hostTimes.push(ms - (waitedMs() - waitedBefore));
      }
    }
    const measured = [];
    for (const side of sides)
      measured.push({ method: side.method, times: side.times, result: await summary(side, batch) });
    return measured;
  } finally {
    for (const side of sides) await side.session.close();
  }
}

/** `batch_size` rows of `max_seq_length` random tokens: the time of a step does not depend on what they are. */
function randomBatch(settings: TrainingSettings, vocab: number): MicroBatch {
  const random = new RandomSource(settings.seed, TOKEN_STREAM);
  const { batch_size: rows, max_seq_length: length } = settings;
  return makeMicroBatch(
    Array.from({ length: rows }, () => {
      const inputIds = Int32Array.from({ length }, () => random.nextBelow(vocab));
      return { inputIds, labels: inputIds, truncated: false, scored: length - 1 };
    }),
  );
}

async function takeStep(side: Side, batch: MicroBatch): Promise<void> {
  const { learning_rate: learningRate, weight_decay: weightDecay } = side.run.settings;
  const { max_grad_norm: maxGradNorm } = side.run.settings;
  const scalars = { step: side.step++, learningRate, weightDecay, maxGradNorm };
  const { loss, gradNorm } = await side.session.step([batch], scalars);
  side.loss = loss;
  side.gradNorm = gradNorm;
}

async function summary(
  side: Side,
  batch: MicroBatch,
): Promise<Omit<Throughput, "timeOverLora" | "interleaved">> {
  const { method, loss, gradNorm, times, hostTimes, run, session } = side;
  const stepSeconds = median(times) / 1000;
  const work = (): Promise<void> => takeStep(side, batch);
  const { profile } = await profiled(session.executor, side.step + 1, work);
  const step = run.programs.filter(({ name }) => name !== "evaluation");
  const { gpu } = session.executor;
  const { productMs, emptyDispatchMs } = await measureOverheads(gpu, step, session.variants);
  const dispatches = dispatchCount(profile.calls);
  return {
    method,
    tokens: batch.tokens,
    stepSeconds,
    tokensPerSecond: batch.tokens / stepSeconds,
    productShare: productShare(profile.calls),
    stepEfficiency: productMs / 1000 / stepSeconds,
    dispatches,
    dispatchShare: (dispatches * emptyDispatchMs) / 1000 / stepSeconds,
    hostMs: median(hostTimes),
    loss,
    gradNorm,
    planBytes: run.plan.totalBytes,
    profile,
  };
}
