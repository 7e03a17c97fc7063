/** Runs one call on the GPU in every variant that the adapter accepts and compares with its f64 twin. */
import { afterAll, beforeAll, expect } from "vitest";
import { f32ToBf16 } from "../../src/formats/floats.js";
import { packBlocks } from "../../src/quant/block_float.js";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { Executor, acceptedVariants } from "../../src/program/executor.js";
import type { Call, NumberArray } from "../../src/program/kernel.js";
import { planMemory } from "../../src/program/planner.js";
import { ReferenceMemory, runReference } from "../../src/program/reference.js";
import { MOST_BUFFERS, storageBuffers } from "./storage_buffers.js";
import {
  elementCount,
  tensor,
  tensorBytes,
  type DType,
  type Kind,
  type Tensor,
} from "../../src/program/tensor.js";

/** Opens the GPU once for a test file. */
export function useGpu(): { readonly gpu: Gpu } {
  const holder: { gpu: Gpu } = { gpu: undefined as unknown as Gpu };
  beforeAll(async () => {
    holder.gpu = await openGpu();
  });
  afterAll(async () => {
    await holder.gpu.destroy();
  });
  return holder;
}

/** A persistent tensor, so that a single call can read it without anything having written it. */
export const given = (
  name: string,
  shape: readonly number[],
  dtype: DType = "f32",
  kind: Kind = "cache",
): Tensor => tensor(name, shape, dtype, kind);

/** Seeded numbers, roughly normal: reproducible test data. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 0x1000000;
  };
  return () => Math.sqrt(3) * (uniform() + uniform() + uniform() + uniform() - 2);
}

export function randomF32(count: number, seed: number, scale = 1): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length: count }, () => next() * scale);
}

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((sum, v, i) => sum + v * (b[i] ?? 0), 0);

/** Values as the host packs them. */
export const packed = (values: Float32Array, dtype: "f32" | "bf16" | "bfp16"): ArrayBufferView =>
  dtype === "f32" ? values : dtype === "bf16" ? f32ToBf16(values) : packBlocks(values);

export const bytesOf = (a: ArrayBufferView): Uint8Array => {
  const padded = new Uint8Array(Math.max(4, Math.ceil(a.byteLength / 4) * 4));
  padded.set(new Uint8Array(a.buffer, a.byteOffset, a.byteLength));
  return padded;
};

export interface Comparison {
  /** Largest allowed |gpu - twin| / max(|twin| over the tensor, 1e-6). Say in the test where it comes from. */
  readonly tolerance: number;
  /** Initial content of read and updated tensors; missing ones start as zeros. */
  readonly data: Readonly<Record<string, ArrayBufferView>>;
  /** Only these variants (default: all that accept the call). */
  readonly only?: readonly string[];
}

/** What a call leaves in the tensors that it writes, by binding name. */
export type Written = Readonly<Record<string, NumberArray>>;

const writtenBindings = (call: Call): readonly (readonly [string, Tensor])[] =>
  Object.entries(call.tensors).filter(([name]) => call.kernel.bindings[name] !== "read");

/** Runs a call by its f64 twin. Tensors without data start as zeros. */
export function runTwin(call: Call, data: Comparison["data"]): Written {
  const memory = new ReferenceMemory();
  for (const [name, t] of Object.entries(call.tensors)) {
    const values = data[name];
    if (values) memory.load(t, bytesOf(values));
  }
  runReference({ name: "one call", calls: [call] }, memory);
  return Object.fromEntries(writtenBindings(call).map(([name, t]) => [name, memory.array(t)]));
}

/** Runs a call in every variant that the adapter accepts (or `only` some). @returns what each wrote, by its name */
export async function runVariants(
  gpu: Gpu,
  call: Call,
  data: Comparison["data"],
  only?: readonly string[],
): Promise<ReadonlyMap<string, Written>> {
  const program = { name: "one call", calls: [call] };
  const plan = planMemory([program], 1 << 16);
  const results = new Map<string, Written>();
  for (const variant of acceptedVariants(call, gpu)) {
    if (only && !only.includes(variant.name)) continue;
    const what = `${call.kernel.name}/${variant.name}`;
    expect(storageBuffers(call, variant, gpu.traits), what).toBeLessThanOrEqual(MOST_BUFFERS);
    const executor = await Executor.allocate(gpu, plan);
    await executor.load([program], () => variant);
    for (const [name, t] of Object.entries(call.tensors)) {
      const values = data[name];
      await executor.write(t, values ? bytesOf(values) : new Uint8Array(tensorBytes(t)));
    }
    await executor.run(program, { afterUpdate: true });
    const written: Record<string, NumberArray> = {};
    for (const [name, t] of writtenBindings(call)) {
      const got = new ReferenceMemory();
      got.load(t, new Uint8Array(await executor.read(t)));
      written[name] = got.array(t);
    }
    await executor.release();
    results.set(variant.name, written);
  }
  expect(results.size).toBeGreaterThan(0);
  return results;
}

/** Asserts that every accepted variant gives the twin's numbers; returns the names of the variants that ran. */
export async function compareWithTwin(gpu: Gpu, call: Call, how: Comparison): Promise<readonly string[]> {
  const want = runTwin(call, how.data);
  const results = await runVariants(gpu, call, how.data, how.only);
  for (const [variant, got] of results) {
    for (const [name, values] of Object.entries(want)) {
      expectClose(got[name]!, values, how.tolerance, `${call.kernel.name}/${variant} ${name}`);
    }
  }
  return [...results.keys()];
}

/** Largest difference relative to the largest wanted element. */
export function expectClose(got: NumberArray, want: NumberArray, tolerance: number, what: string): void {
  expect(got.length, what).toBe(want.length);
  let largest = 1e-6;
  let worst = 0;
  let at = -1;
  for (let i = 0; i < want.length; i++) largest = Math.max(largest, Math.abs(want[i] ?? 0));
  for (let i = 0; i < want.length; i++) {
    const d = Math.abs((got[i] ?? NaN) - (want[i] ?? NaN));
    if (!(d <= worst)) {
      worst = d;
      at = i;
    }
  }
  expect(
    worst / largest,
    `${what}: element ${at} is ${got[at]}, the twin says ${want[at]}`,
  ).toBeLessThanOrEqual(tolerance);
}

/**
 * Central finite differences of a scalar function through twins in f64.
 * @param loss computes sum(weights * output) for given inputs
 */
export function finiteDifference(
  input: Float64Array,
  loss: (x: Float64Array) => number,
  step = 1e-5,
): Float64Array {
  const gradient = new Float64Array(input.length);
  for (let i = 0; i < input.length; i++) {
    const kept = input[i] ?? 0;
    input[i] = kept + step;
    const up = loss(input);
    input[i] = kept - step;
    const down = loss(input);
    input[i] = kept;
    gradient[i] = (up - down) / (2 * step);
  }
  return gradient;
}

export { elementCount };
