/**
 * Every variant of every kernel in whole models: each name is forced in turn (QDORA_VARIANT), wherever it fits a call, through
 * golden runs of PEFT (losses, norms, gradients; of one run the adapter after its last step), runs beside the f64 reference, and
 * generation.
 * A variant that none of these runs has fails the last test.
 */
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { openGpu } from "../../src/gpu/device.js";
import type { FinetuneConfig } from "../../src/config/resolve.js";
import { ALL_KERNELS } from "../../src/kernels/index.js";
import { acceptedVariants } from "../../src/program/executor.js";
import { prepareRun } from "../../src/train/prepare.js";
import { FIXTURES } from "../fixture_files.js";
import { ALONE } from "../kernels/alone.js";
import { decodedLogits } from "../model/decoded_logits.js";
import { furthest, golden, TOLERANCE } from "../model/golden_logits.js";
import { trainOnGpu } from "./golden_gpu.js";
import { trainByReference, type ReferenceRun } from "./golden_reference.js";
import {
  DOUBLE_QUANT_TOLERANCES,
  expectGradients,
  expectSteps,
  expectUpdate,
  goldenConfig,
  goldenSteps,
  ROUNDED,
  TOLERANCES,
  type Tolerances,
  type Values,
} from "./golden_run.js";

const gpu = await openGpu();
afterAll(() => gpu.destroy());

const given = process.env["QDORA_VARIANT"];
const force = (name: string | undefined): void => {
  if (name === undefined) delete process.env["QDORA_VARIANT"];
  else process.env["QDORA_VARIANT"] = name;
};
afterEach(() => force(given));

/** "kernel/variant" */
const ran = new Set<string>();

interface Golden {
  readonly name: string;
  readonly changes?: Partial<FinetuneConfig>;
  readonly tolerance?: Tolerances;
  /** Only these variants: the others run in a case that is exact. */
  readonly only?: readonly string[];
  /** To the last step. The others end when all that is trained has changed a few times; golden_gpu.test.ts runs them to theirs. */
  readonly isWhole?: boolean;
}

/** B starts at 0: the second step is the first with a low-rank product, the third is after Adam's moments were used. */
const FEW_STEPS = 4;

const HALF = { compute_dtype: "f16" } as const;
const GOLDEN: readonly Golden[] = [
  { name: "qdora_llama", isWhole: true },
  { name: "dora_llama" },
  { name: "qdora_qwen2" },
  { name: "qdora_llama_dq", tolerance: DOUBLE_QUANT_TOLERANCES },
  // SwiGLU's backward makes the magnitudes' gradients, where there are magnitudes.
  { name: "qlora_llama", only: ["tile", "element"] },
  // Attention reads bfp16, layer inputs wait in bf16.
  { name: "qdora_llama", changes: { compute_dtype: "auto", checkpoint_dtype: "bf16" }, tolerance: ROUNDED },
  ...["qdora_llama", "dora_llama", "qdora_qwen2"].map((name) => ({
    name,
    changes: HALF,
    tolerance: ROUNDED,
    only: name === "qdora_llama" ? ["matrix", "small_matrix"] : ["matrix"],
  })),
];

/** Names among which a call of the run has a choice on this adapter. */
async function choices(config: FinetuneConfig): Promise<readonly string[]> {
  const run = await prepareRun(config);
  run.dataset.close();
  const calls = run.programs.flatMap((p) => p.calls).filter((call) => !call.kernel.transfer);
  const names = calls.map((call) => acceptedVariants(call, gpu).map((v) => v.name));
  return [...new Set(names.filter((n) => n.length > 1).flat())];
}

const title = (name: string, changes: object = {}): string =>
  [name, ...Object.entries(changes).map(([key, value]) => `${key} ${String(value)}`)].join(", ");

describe("PEFT's numbers", () => {
  for (const { name, changes, tolerance = TOLERANCES, only, isWhole } of GOLDEN) {
    it(title(name, changes), async ({ skip }) => {
      const folder = join(FIXTURES, "training", name);
      const config = { ...(await goldenConfig(folder)), ...changes };
      const names = (await choices(config)).filter((n) => only?.includes(n) ?? true);
      skip(names.length === 0, "this adapter has no such variant");
      const want = goldenSteps(folder).slice(0, isWhole ? undefined : FEW_STEPS);
      let adapter: Values | undefined;
      for (const variant of names) {
        force(variant);
        const result = await trainOnGpu(config, gpu, want.length);
        for (const pair of result.ran) ran.add(pair);
        expect([...result.ran].some((pair) => pair.endsWith(`/${variant}`))).toBe(true);
        expectSteps(result.steps, want, tolerance, variant);
        await expectGradients(folder, result.gradients, tolerance, true, variant);
        // After fewer steps PEFT's adapter is not known: then it is the first variant's.
        if (isWhole || adapter)
          await expectUpdate(folder, result.adapter, tolerance, variant, isWhole ? undefined : adapter);
        adapter ??= result.adapter;
      }
    });
  }
});

/** What PEFT has no run of: an int8 head, 8-bit moments, evaluation; rows of at most four tokens, as the variants of generation need them. */
const SHORT = { max_seq_length: 4, batch_size: 1, gradient_accumulation_steps: 4, max_steps: 3 } as const;
const BESIDE: readonly Golden[] = [
  {
    name: "qdora_llama",
    changes: { quant_head: "int8", optimizer: "adamw8bit", val_size: 2, max_steps: 3 },
  },
  { name: "qdora_llama", changes: { ...SHORT, quant_head: "int8" } },
  { name: "dora_llama", changes: SHORT },
  {
    name: "qdora_llama",
    changes: { ...HALF, quant_head: "int8", max_steps: 3 },
    tolerance: ROUNDED,
    only: ["matrix", "small_matrix"],
  },
];

describe("the f64 reference's numbers", () => {
  for (const { name, changes, tolerance = TOLERANCES, only } of BESIDE) {
    it(title(name, changes), async ({ skip }) => {
      const config = { ...(await goldenConfig(join(FIXTURES, "training", name))), ...changes };
      const names = (await choices(config)).filter((n) => only?.includes(n) ?? true);
      skip(names.length === 0, "this adapter has no such variant");
      const want: ReferenceRun = await trainByReference(config);
      for (const variant of names) {
        force(variant);
        const result = await trainOnGpu(config, gpu);
        for (const pair of result.ran) ran.add(pair);
        expectSteps(result.steps, want.steps, tolerance, variant);
        if (result.evaluated !== undefined)
          expect(Math.abs(result.evaluated / want.steps[0]!.loss - 1), variant).toBeLessThan(tolerance.loss);
        for (const [path, values] of want.gradients) {
          const largest = Math.max(...Array.from(values, Math.abs), 1e-30);
          const got = result.gradients.get(path)!;
          const worst = Array.from(values).reduce((top, v, i) => Math.max(top, Math.abs(v - got[i]!)), 0);
          expect(worst / largest, `${variant}: gradient of ${path}`).toBeLessThan(tolerance.gradient);
        }
      }
    });
  }
});

describe("transformers' logits by generation", () => {
  for (const [model, logits, how] of [
    ["llama", "logits_nf4", { quant: "nf4", doubleQuant: false }],
    ["qwen2", "logits", { quant: "none", doubleQuant: false }],
  ] as const) {
    it(`${model}: ${logits}`, async () => {
      const folder = join(FIXTURES, "models", model);
      const { rows, logits: all } = await golden(folder);
      const [row = []] = rows;
      const want = all(logits);
      const vocab = want.length / rows.flat().length;
      const last = want.slice((row.length - 1) * vocab, row.length * vocab);
      for (const variant of ["software", "vector", "tile", "element"]) {
        force(variant);
        const got = await decodedLogits(folder, how, row, gpu);
        for (const pair of got.ran) ran.add(pair);
        expect(furthest(got.logits, last), variant).toBeLessThan(TOLERANCE);
      }
    });
  }
});

describe("all of that", () => {
  it("runs every variant that this adapter accepts", ({ skip }) => {
    skip(ran.size === 0, "the runs above were left out");
    const { isSoftware, matrixShapes } = gpu.traits;
    const absent = new Set([
      ...(isSoftware ? [] : ["software"]),
      ...(matrixShapes.some((m) => m.componentType === "f16") ? [] : ["matrix", "small_matrix"]),
    ]);
    const wanted = ALL_KERNELS.filter((kernel) => !ALONE.includes(kernel.name)).flatMap((kernel) =>
      kernel.variants.filter((v) => !absent.has(v.name)).map((v) => `${kernel.name}/${v.name}`),
    );
    expect(wanted.filter((pair) => !ran.has(pair))).toEqual([]);
  });
});
