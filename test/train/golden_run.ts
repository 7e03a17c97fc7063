/** The golden training runs of real PEFT: their settings, steps, gradients and adapters. See test/fixtures/training/README.md. */
import { join } from "node:path";
import { expect } from "vitest";
import { adapterKey, readPeftAdapter } from "../../src/formats/peft.js";
import type { AdapterLayout } from "../../src/adapter/layout.js";
import { resolveFinetuneConfig, type FinetuneConfig } from "../../src/config/resolve.js";
import type { Tensor } from "../../src/program/tensor.js";
import type { PreparedRun } from "../../src/train/prepare.js";
import { learningRateAt } from "../../src/train/schedule.js";
import { floatTensors, readJson } from "../fixture_files.js";

export interface GoldenStep {
  readonly loss: number;
  readonly grad_norm: number;
  readonly learning_rate: number;
}

export interface Tolerances {
  readonly loss: number;
  readonly gradNorm: number;
  /** ||final - want|| / ||want - start|| over all tensors. */
  readonly update: number;
  /** Of the largest element of a tensor's gradient. */
  readonly gradient: number;
}

/** Suggested by the fixtures' README. */
export const TOLERANCES: Tolerances = { loss: 2e-5, gradNorm: 1e-4, update: 5e-4, gradient: 2e-4 };
/** Nested codes by bitsandbytes' CUDA rule against the stored CPU rule; the README gives none for gradients, 2.7e-3 was seen. */
export const DOUBLE_QUANT_TOLERANCES: Tolerances = {
  loss: 5e-5,
  gradNorm: 3e-4,
  update: 2e-3,
  gradient: 5e-3,
};

/**
 * Under f16 and auto: activations wait in 16 bits, and f16 rounds inputs (11 bits, 2^-12 of each on average) where gradients alone
 * depend on them. 2.4e-5, 4.4e-4, 4.3e-3 and 8.9e-3 were seen.
 */
export const ROUNDED: Tolerances = { loss: 2e-4, gradNorm: 2e-3, update: 2e-2, gradient: 2e-2 };

/** The settings of a run, as the command line would resolve them. */
export function goldenConfig(folder: string, model?: string): Promise<FinetuneConfig> {
  const run = readJson(folder, "run.json") as Record<string, unknown>;
  return resolveFinetuneConfig({
    ...run,
    model: model ?? join(folder, String(run["model"])),
    data: join(folder, String(run["data"])),
    init_adapter: join(folder, String(run["init_adapter"])),
    output_dir: join(folder, "never-written"),
    tune: "off",
  });
}

/** The learning rate of a step, counted from 0. */
export const goldenRate = (
  { lr_scheduler: scheduler, learning_rate: learningRate }: FinetuneConfig,
  { warmupSteps, totalSteps }: PreparedRun,
  step: number,
): number => learningRateAt({ scheduler, learningRate, warmupSteps, totalSteps }, step);

export const goldenSteps = (folder: string): readonly GoldenStep[] =>
  (readJson(folder, "expected", "metrics.json") as { steps: readonly GoldenStep[] }).steps;

export const relative = (got: number, want: number): number => Math.abs(got - want) / Math.abs(want);

/** @param what said where an expectation fails */
export function expectSteps(
  got: readonly GoldenStep[],
  want: readonly GoldenStep[],
  tolerance: Tolerances,
  what = "",
): void {
  expect(got.length).toBe(want.length);
  for (const [i, w] of want.entries()) {
    const g = got[i]!;
    expect(relative(g.loss, w.loss), `${what} loss of step ${i + 1}: ${g.loss}, want ${w.loss}`).toBeLessThan(
      tolerance.loss,
    );
    expect(
      relative(g.grad_norm, w.grad_norm),
      `${what} grad_norm of step ${i + 1}: ${g.grad_norm}, want ${w.grad_norm}`,
    ).toBeLessThan(tolerance.gradNorm);
    expect(Math.abs(g.learning_rate - w.learning_rate), `learning_rate of step ${i + 1}`).toBeLessThanOrEqual(
      1e-6 * w.learning_rate,
    );
  }
}

/** The tensors of a layout by their PEFT names. */
export function byPeftName(
  layout: AdapterLayout,
  kind: "parameters" | "gradients",
): ReadonlyMap<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const m of layout.modules.values()) {
    const { a, b, magnitude } = m[kind];
    tensors.set(adapterKey(m.path, "lora_A"), a);
    tensors.set(adapterKey(m.path, "lora_B"), b);
    if (magnitude) tensors.set(adapterKey(m.path, "magnitude"), magnitude);
  }
  return tensors;
}

export type Values = ReadonlyMap<string, ArrayLike<number>>;

/** @param all whether the fixture must hold every tensor (the large ones keep some layers only) */
export async function expectGradients(
  folder: string,
  got: Values,
  tolerance: Tolerances,
  all = true,
  what = "",
): Promise<void> {
  const want = await floatTensors(join(folder, "expected", "grads_step1.safetensors"));
  if (all) expect([...got.keys()].toSorted()).toEqual([...want.keys()].toSorted());
  for (const [name, values] of want) {
    const mine = got.get(name);
    const largest = values.reduce((top, v) => Math.max(top, Math.abs(v)), 0);
    const worst = values.reduce((top, v, i) => Math.max(top, Math.abs(v - (mine?.[i] ?? NaN))), 0);
    expect(worst / Math.max(largest, 1e-30), `${what} gradient of ${name}`).toBeLessThan(tolerance.gradient);
  }
}

async function peftAdapter(folder: string): Promise<Values> {
  const { tensors } = await readPeftAdapter(join(folder, "expected", "adapter"));
  return new Map([...tensors].map(([name, { data }]) => [name, data]));
}

/** @param wanted default: PEFT's adapter after the last step */
export async function expectUpdate(
  folder: string,
  got: Values,
  tolerance: Tolerances,
  what = "",
  wanted?: Values,
): Promise<void> {
  const start = (await readPeftAdapter(join(folder, "adapter_init"))).tensors;
  const want = wanted ?? (await peftAdapter(folder));
  expect([...got.keys()].toSorted()).toEqual([...want.keys()].toSorted());
  let [difference, update] = [0, 0];
  for (const [name, data] of want) {
    for (const [i, v] of Array.from(data).entries()) {
      difference += (got.get(name)![i]! - v) ** 2;
      update += (v - start.get(name)!.data[i]!) ** 2;
    }
  }
  expect(Math.sqrt(difference / update), `${what} update, relative L2`).toBeLessThan(tolerance.update);
}
