import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import { expandWgsl } from "../../src/gpu/wgsl.js";
import type { Call, Variant } from "../../src/program/kernel.js";
import { CACHED, CASES, describeCase, inputs, runTwins, uploaded, type Case } from "./attention_calls.js";
import { compareWithTwin, randomF32, useGpu } from "./harness.js";
import { VENDORS } from "./matrix_vendors.js";

const context = useGpu();

/**
 * Inputs, probabilities and gradients of scores are rounded to f16, 2^-12 of each on average, and an error of a score is one of its
 * probability; relative to the largest result. 1e-3 was seen.
 */
const TOLERANCE = 2e-3;

/** Forward with fewer queries is the query variant's. */
const queries = (c: Case): number => c.lengths.reduce((a, b) => a + b) - (c.queryRow ?? 0);
const MATRIX_CASES: readonly Case[] = [
  ...CASES,
  { lengths: [65, 64], heads: 2, kvHeads: 1, headDim: 96, window: 33 },
].filter((c) => queries(c) > 4);
const MATRIX_CACHED = CACHED.filter((c) => queries(c) > 4);

const hasMatrices = (): boolean => context.gpu.traits.matrixShapes.some((s) => s.componentType === "f16");

const matrixOf = (call: Call): Variant => {
  const variant = call.kernel.variants.find((v) => v.name === "matrix");
  if (!variant) throw new Error(`${call.kernel.name} has no matrix variant`);
  return variant;
};

/** Compares the matrix variant where it accepts the call. @returns whether it did */
async function compare(call: Call, data: Readonly<Record<string, ArrayBufferView>>): Promise<boolean> {
  if (!matrixOf(call).accepts(call, context.gpu.traits)) return false;
  await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data, only: ["matrix"] });
  return true;
}

/** Forward and both backward kernels. @returns which ran */
async function compareAll(c: Case, change: (data: Record<string, ArrayBufferView>) => void = () => undefined) {
  const { data, calls } = inputs({ ...c, half: true });
  change(data);
  const ran = [await compare(calls[0], uploaded(c, data))];
  runTwins(calls.slice(0, 1), data);
  for (const [i, lse] of data["lse"]!.entries()) data["statistics"]![2 * i] = lse;
  ran.push(await compare(calls[2], uploaded(c, data)));
  if (c.queryRow === undefined) ran.push(await compare(calls[3], uploaded(c, data)));
  return ran;
}

describe("attention on matrices", () => {
  for (const c of [...MATRIX_CASES, ...MATRIX_CACHED]) {
    it(`equals its twins: ${describeCase(c)}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      const ran = await compareAll(c);
      if (c.headDim <= 128) expect(ran).not.toContain(false);
    });
  }
});
