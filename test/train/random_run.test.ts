/**
 * Random models and settings: the reference's numbers, the same bits wherever layers wait, and nothing read of the workspace that
 * was not written. Gradients are those of all micro-batches of the first step.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { openGpu } from "../../src/gpu/device.js";
import { Executor } from "../../src/program/executor.js";
import { trainOnGpu } from "./golden_gpu.js";
import { trainByReference } from "./golden_reference.js";
import type { Values } from "./golden_run.js";
import { randomRun, type Fixed, type RandomRun } from "./random_run.js";

const DORA = { use_dora: true, rank_pattern: undefined };
const WIDE = { model_type: "llama", hidden_size: 64, mlp_bias: true, attention_bias: true } as const;
const PACKED = {
  ...DORA,
  compute_dtype: "auto",
  target_modules: "all-linear",
  max_seq_length: 150,
  token_chunk: 128,
} as const;
const RUNS: readonly (readonly [seed: number, fixed: Fixed])[] = [
  [0, {}],
  [1, {}],
  [2, {}],
  [3, {}],
  // SwiGLU's backward makes the magnitudes' gradients of both modules, with biases, and of one of them.
  [
    4,
    { model: { model_type: "llama", mlp_bias: true }, settings: { ...DORA, target_modules: "all-linear" } },
  ],
  [5, { settings: { ...DORA, target_modules: String.raw`.*(up|o)_proj` } }],
  [6, { settings: { ...DORA, target_modules: String.raw`.*(gate|down)_proj` } }],
  // Magnitudes of o_proj and down_proj from layer inputs and activations in 16 bits, with biases, in chunks.
  [7, { model: WIDE, settings: { ...PACKED, gradient_checkpointing: "full" } }],
  [8, { model: WIDE, settings: { ...PACKED, gradient_checkpointing: "selective" } }],
];
/** Of a tensor's largest gradient: sums of some hundred terms in f32; activations that wait in 16 bits. 1e-5 and 3e-3 were seen. */
const TOLERANCE = { f32: 1e-4, auto: 1e-2, f16: 1e-2 };
/** Gradients that are this part of the largest of all are differences of nearly equal numbers. */
const SMALL = 1e-3;
/** NaN as f32, and out of range in blocks. */
const GARBAGE = 0xffffffff;

const gpu = await openGpu();
afterAll(() => gpu.destroy());
afterEach(() => vi.restoreAllMocks());

const largest = (values: ArrayLike<number>): number =>
  Array.from(values).reduce((top, v) => Math.max(top, Math.abs(v)), 0);

function expectClose(got: Values, want: Values, tolerance: number): void {
  expect([...got.keys()]).toEqual([...want.keys()]);
  const most = Math.max(...[...want.values()].map(largest));
  for (const [name, values] of want) {
    const own = got.get(name) ?? [];
    const worst = largest(Array.from(values, (v, i) => v - (own[i] ?? NaN)));
    expect(worst / Math.max(largest(values), SMALL * most), name).toBeLessThan(tolerance);
  }
}

/** Fills what is not kept from program to program before each of them. @returns how often */
function spoilWorkspace(): () => number {
  const allocate = vi.spyOn(gpu.ledger, "allocate");
  let spoilt = 0;
  const run = Reflect.get(Executor.prototype, "run");
  vi.spyOn(Executor.prototype, "run").mockImplementation(function (this: Executor, ...given) {
    for (const [i, [label, , bytes]] of allocate.mock.calls.entries()) {
      const buffer = allocate.mock.results[i]?.value as GPUBuffer;
      if (!/^(slot \d+|input\.\d+|(layer|scale|gradient) slot.*|norm partials|token loss)$/.test(label))
        continue;
      gpu.device.queue.writeBuffer(buffer, 0, new Uint32Array(bytes / 4).fill(GARBAGE));
      spoilt += 1;
    }
    return run.apply(this, given);
  });
  return () => spoilt;
}

describe.each(RUNS)("random run %i, %j", (seed, fixed) => {
  let folder: string;
  let run: RandomRun;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "qdora-random-"));
    run = await randomRun(folder, seed, fixed);
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("gives the reference's numbers", async () => {
    const [got, want] = [await trainOnGpu(run.resident, gpu), await trainByReference(run.resident)];
    expectClose(got.gradients, want.gradients, TOLERANCE[run.resident.compute_dtype]);
    expect(got.ledgerBytes).toBe(got.run.plan.totalBytes);
  });

  it("gives the same bits with streamed layers", async () => {
    const [resident, streamed] = [await trainOnGpu(run.resident, gpu), await trainOnGpu(run.streamed, gpu)];
    expect(streamed.run.model.ring).toBeDefined();
    expect(streamed.steps).toEqual(resident.steps);
    expect(streamed.gradients).toEqual(resident.gradients);
    expect(streamed.adapter).toEqual(resident.adapter);
  });

  it.each(["resident", "streamed"] as const)("reads nothing that it has not written: %s", async (where) => {
    const clean = await trainOnGpu(run[where], gpu);
    const spoilt = spoilWorkspace();
    const dirty = await trainOnGpu(run[where], gpu);
    expect(spoilt()).toBeGreaterThan(0);
    expect(dirty.steps).toEqual(clean.steps);
    expect(dirty.gradients).toEqual(clean.gradients);
    expect(dirty.adapter).toEqual(clean.adapter);
  });
});
