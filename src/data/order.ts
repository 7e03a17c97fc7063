/** Which rows form which micro-batch: seeded shuffling, epoch by epoch. A pure function of the settings and the step, so resume needs no state. */
import { RandomSource } from "../program/random.js";

export interface OrderSettings {
  readonly seed: number;
  readonly shuffle: boolean;
}

export interface StepSettings extends OrderSettings {
  /** Units (rows, or bins of packed rows) in a micro-batch. */
  readonly batchSize: number;
  /** Micro-batches in an optimizer step. */
  readonly accumulation: number;
}

/** Streams of the seed from here on belong to the epochs. */
const FIRST_EPOCH_STREAM = 0x10000;

/** Optimizer steps in one epoch; the last may have fewer units. */
export function stepsPerEpoch(count: number, batchSize: number, accumulation: number): number {
  return Math.ceil(count / (batchSize * accumulation));
}

/**
 * The order of the units in an epoch: file order, or a Fisher-Yates shuffle with xoshiro128** seeded by (seed, epoch).
 * @returns [count] each index once
 */
export function rowOrder(count: number, epoch: number, settings: OrderSettings): Uint32Array {
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  if (!settings.shuffle) return order;
  const random = new RandomSource(settings.seed, FIRST_EPOCH_STREAM + epoch);
  for (let i = count - 1; i > 0; i--) {
    const j = random.nextBelow(i + 1);
    const other = order[j] ?? 0;
    order[j] = order[i] ?? 0;
    order[i] = other;
  }
  return order;
}

/** The order used last: consecutive steps of an epoch ask for the same one. */
let recent: { readonly key: string; readonly order: Uint32Array } | undefined;

function recentOrder(count: number, epoch: number, settings: OrderSettings): Uint32Array {
  const key = `${count} ${epoch} ${settings.seed} ${settings.shuffle}`;
  if (recent?.key !== key) recent = { key, order: rowOrder(count, epoch, settings) };
  return recent.order;
}

/**
 * The micro-batches of an optimizer step. A step never crosses the end of an epoch: the last one of an epoch may have
 * fewer micro-batches and a smaller last one. After the last epoch asked for, units start again.
 * @param step counted from 0 over the whole run
 * @returns for each micro-batch its units
 */
export function stepUnits(count: number, step: number, settings: StepSettings): number[][] {
  const { batchSize, accumulation } = settings;
  const perEpoch = stepsPerEpoch(count, batchSize, accumulation);
  const order = recentOrder(count, Math.floor(step / perEpoch), settings);
  const first = (step % perEpoch) * batchSize * accumulation;
  const last = Math.min(count, first + batchSize * accumulation);
  const batches: number[][] = [];
  for (let from = first; from < last; from += batchSize) {
    batches.push([...order.subarray(from, Math.min(last, from + batchSize))]);
  }
  return batches;
}
