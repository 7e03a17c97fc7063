/** Every kernel and every variant of it, as whole programs use them: they validate with no driver, and none is left out. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { Pipelines } from "../../src/gpu/pipelines.js";
import { PORTABLE_TRAITS, type AdapterTraits } from "../../src/gpu/traits.js";
import { ALL_KERNELS } from "../../src/kernels/index.js";
import { generationProgram, generationTensors } from "../../src/model/generation.js";
import { evaluationProgram, microBatchProgram } from "../../src/model/programs.js";
import type { Call } from "../../src/program/kernel.js";
import { programCost } from "../../src/program/costing.js";
import { prepareRun } from "../../src/train/prepare.js";
import { FIXTURES } from "../fixture_files.js";
import { goldenConfig } from "../train/golden_run.js";
import { ALONE } from "./alone.js";
import { VENDORS } from "./matrix_vendors.js";
import { MOST_BUFFERS, storageBuffers } from "./storage_buffers.js";

let nothing: Gpu;
beforeAll(async () => {
  nothing = await openGpu({ backend: "null" });
});
afterAll(async () => {
  await nothing.destroy();
});

/** All calls of training, evaluation and generation with the golden models, in several storages. */
async function callsOfPrograms(): Promise<readonly Call[]> {
  const all: Call[] = [];
  for (const [name, optimizer, quant_head, compute_dtype, checkpoint_dtype = "auto"] of [
    ["dora_llama", "adamw", "none", "f32"],
    ["qdora_llama_dq", "adamw8bit", "nf4", "auto"],
    ["qdora_qwen2", "adamw", "none", "f32"],
    ["qlora_llama", "adamw", "int8", "f32"],
    ["dora_llama", "adamw8bit", "int8", "f16", "bf16"],
    ["qdora_qwen2", "adamw", "none", "f16"],
  ] as const) {
    const golden = await goldenConfig(join(FIXTURES, "training", name));
    const run = await prepareRun({ ...golden, optimizer, quant_head, compute_dtype, checkpoint_dtype });
    const sizes = { N: run.capacity, capacity: run.capacity, checkpointing: "full" as const };
    const generation = generationTensors(run.model, 64, 16);
    all.push(
      ...run.programs.flatMap((p) => p.calls),
      ...microBatchProgram(run.model, run.stream, sizes).calls,
      ...evaluationProgram(run.model, run.stream, sizes).calls,
      ...evaluationProgram(run.model, run.stream, { ...sizes, N: 8, capacity: 8 }).calls,
      ...generationProgram("prefill", run.model, generation, { N: 16, capacity: 16, row: 0 }).calls,
      ...generationProgram("decode", run.model, generation, { N: 1, capacity: 1, row: 0 }).calls,
    );
  }
  // Transfers have no shader.
  return all.filter((call) => !call.kernel.transfer);
}

/** Kinds of adapters: what WebGPU promises everywhere, and software with its subgroups. */
const ADAPTERS: readonly (readonly [string, Partial<AdapterTraits>])[] = [
  ["portable", {}],
  ...[4, 8, 16].map(
    (size) =>
      [
        `software, subgroups of ${size}`,
        {
          isSoftware: true,
          features: new Set(["subgroups"]),
          subgroupMinSize: size,
          subgroupMaxSize: size,
          maxWorkgroupInvocations: 1024,
        },
      ] as const,
  ),
];

describe("all kernels", () => {
  it("have a twin, a cost and a variant for any adapter", () => {
    expect(new Set(ALL_KERNELS.map((k) => k.name)).size).toBe(ALL_KERNELS.length);
    for (const kernel of ALL_KERNELS) {
      expect(kernel.variants.length, kernel.name).toBeGreaterThan(0);
      expect(new Set(kernel.variants.map((v) => v.name)).size, kernel.name).toBe(kernel.variants.length);
    }
  });

  it("are used by a program, or tested alone", async () => {
    const used = new Set((await callsOfPrograms()).map((call) => call.kernel.name));
    expect([...used, ...ALONE].toSorted()).toEqual(
      ALL_KERNELS.map((k) => k.name)
        .concat(ALONE.filter((name) => used.has(name)))
        .toSorted(),
    );
  });

  for (const [name, changes] of ADAPTERS) {
    it(`validate without a driver: ${name}`, async () => {
      const traits = { ...PORTABLE_TRAITS, ...changes };
      const pipelines = new Pipelines(nothing);
      for (const call of await callsOfPrograms()) {
        const variants = call.kernel.variants.filter((v) => v.accepts(call, traits));
        expect(variants.length, `${call.kernel.name} (${call.label})`).toBeGreaterThan(0);
        for (const v of variants) await pipelines.get(v.file, v.defines(call, traits));
      }
      nothing.check();
    });
  }

  it("bind at most as many storage buffers as WebGPU promises everywhere, in every variant for every kind of adapter", async () => {
    const kinds = [
      ...ADAPTERS.map(([, changes]) => ({ ...PORTABLE_TRAITS, ...changes })),
      ...Object.values(VENDORS),
    ];
    const most = new Map<string, number>();
    for (const call of await callsOfPrograms())
      for (const traits of kinds)
        for (const v of call.kernel.variants.filter((variant) => variant.accepts(call, traits))) {
          const name = `${call.kernel.name}/${v.name}`;
          most.set(name, Math.max(storageBuffers(call, v, traits), most.get(name) ?? 0));
        }
    // Those that are tested alone are held to it there, by the harness.
    const all = ALL_KERNELS.filter((k) => !ALONE.includes(k.name));
    const names = all.flatMap((k) => k.variants.map((v) => `${k.name}/${v.name}`));
    expect(names.filter((name) => !most.has(name))).toEqual([]);
    expect([...most].filter(([, buffers]) => buffers > MOST_BUFFERS)).toEqual([]);
    // Today's most: the count counts something.
    expect(Math.max(...most.values())).toBe(MOST_BUFFERS);
  });

  it("cost something", async () => {
    const calls = await callsOfPrograms();
    const cost = programCost({ name: "all", calls });
    expect(cost.calls).toBe(calls.length);
    expect([...cost.byKernel.values()].reduce((sum, k) => sum + k.flops, 0)).toBeCloseTo(cost.flops, 0);
    for (const call of calls) expect(call.kernel.cost(call).bytes, call.label).toBeGreaterThan(0);
  });
});
