import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import { expandWgsl } from "../../src/gpu/wgsl.js";
import type { Call, Defines, Variant } from "../../src/program/kernel.js";
import { CACHED, CASES, describeCase, inputs, runTwins, uploaded, type Case } from "./attention_calls.js";
import { compareWithTwin, useGpu } from "./harness.js";
import { misplacing, VENDORS } from "./matrix_vendors.js";

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
  { lengths: [65, 64], heads: 3, kvHeads: 1, headDim: 80, window: 33 },
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
async function compareAll(
  c: Case,
  change: (data: Record<string, ArrayBufferView>) => void = () => undefined,
  built: (call: Call) => Call = (call) => call,
): Promise<readonly boolean[]> {
  const { data, calls } = inputs({ ...c, half: true });
  change(data);
  const ran = [await compare(built(calls[0]), uploaded(c, data))];
  runTwins(calls.slice(0, 1), data);
  for (const [i, lse] of data["lse"]!.entries()) data["statistics"]![2 * i] = lse;
  ran.push(await compare(built(calls[2]), uploaded(c, data)));
  if (c.queryRow === undefined) ran.push(await compare(built(calls[3]), uploaded(c, data)));
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

interface OtherBuild {
  readonly vendor?: string;
  readonly more?: Defines;
  /** Own operands in registers are unrolled by the head, which takes the software GPU long: short heads for all three kernels. */
  readonly headDim: number;
  /** 0 leaves out the kernel of keys and values. */
  readonly queryRow?: 0;
  /** Lanes of a subgroup below which these defines are none that a build has. */
  readonly leastSubgroup?: number;
}
/** What only other adapters choose, with this one's matrices. */
const BUILDS: Readonly<Record<string, OtherBuild>> = {
  "own operands in registers": { vendor: "amd", headDim: 32 },
  "own operands of two chunks in registers": { vendor: "amd", headDim: 64, queryRow: 0 },
  "64 columns, few registers": { vendor: "intel", headDim: 64 },
  "24 rows and two chunks of a head, few registers": {
    vendor: "intel",
    more: { SUBGROUPS_M: 3, SUBGROUPS_N: 4, COLUMNS: 32, TO: 2 },
    headDim: 64,
    leastSubgroup: 8,
  },
  "two passes, few registers": { more: { PASSES: 2, FEW: 1 }, headDim: 64 },
  "own operands in few registers": { vendor: "amd", more: { FEW: 1 }, headDim: 32 },
};

describe("the builds of other adapters", () => {
  for (const [name, { vendor, more, leastSubgroup = 1, ...ofCase }] of Object.entries(BUILDS)) {
    it(`equal the twins: ${name}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      skip(context.gpu.traits.subgroupMinSize < leastSubgroup, "this adapter's subgroups are too small");
      const traits = { ...context.gpu.traits, ...(vendor !== undefined && { vendor }) };
      const built = (call: Call): Call => {
        const matrix = matrixOf(call);
        const variant: Variant = {
          ...matrix,
          accepts: () => matrix.accepts(call, traits),
          defines: () => ({ ...matrix.defines(call, traits), ...more }),
        };
        return { ...call, kernel: { ...call.kernel, variants: [variant] } };
      };
      const c: Case = { lengths: [65, 30], heads: 2, kvHeads: 1, window: 33, ...ofCase };
      const ran = await compareAll(c, undefined, built);
      // A case with a first query has no gradients of keys.
      expect(ran).toEqual(c.queryRow === undefined ? [true, true, true] : [true, true]);
    });
  }
});

describe("attention of values far outside f16's range", () => {
  const c: Case = { lengths: [40, 30], heads: 2, kvHeads: 1, headDim: 32, window: 0 };
  const scaled = (a: ArrayBufferView | undefined, by: number): Float32Array =>
    (a as Float32Array).map((x) => x * by);

  for (const [q, k, v, gradient] of [
    [1e6, 1e-6, 1e8, 1e-12],
    [1e-8, 1e8, 1e-8, 1e8],
    [1, 1, 1e30, 1e-30],
  ] as const) {
    it(`q of ${q}, k of ${k}, v of ${v}, d_o of ${gradient}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      const ran = await compareAll(c, (data) => {
        for (const [name, by] of Object.entries({ q, k, v, d_o: gradient }))
          data[name] = scaled(data[name], by);
        // Delta is a sum of o and d_o.
        data["statistics"] = scaled(data["statistics"], v * gradient);
      });
      expect(ran).toEqual([true, true, true]);
    });
  }

  it("a sequence whose gradients are much larger than those before it", async ({ skip }) => {
    skip(!hasMatrices(), "this adapter has no f16 matrices");
    const ran = await compareAll({ ...c, lengths: [33, 37] }, (data) => {
      // Queries that the first keys do not see have gradients past f16's range at the scale of those that they see.
      data["d_o"] = (data["d_o"] as Float32Array).map((x, i) => (i < 33 * 64 ? x : x * 1e9));
    });
    expect(ran).toEqual([true, true, true]);
  });

  it("one huge value among ordinary ones, the massive activations of real models", async ({ skip }) => {
    skip(!hasMatrices(), "this adapter has no f16 matrices");
    const ran = await compareAll(c, (data) => {
      for (const name of ["q", "k", "v", "d_o"])
        data[name] = (data[name] as Float32Array).map((x, i) =>
          i % 32 === 7 ? (name === "q" ? 0 : 1e5 * Math.sign(x)) : x,
        );
    });
    expect(ran).toEqual([true, true, true]);
  });

  it("scores that are far apart, and largest ones that keep growing", async ({ skip }) => {
    skip(!hasMatrices(), "this adapter has no f16 matrices");
    const { data, calls } = inputs({
      lengths: [130],
      heads: 1,
      kvHeads: 1,
      headDim: 32,
      window: 0,
      half: true,
    });
    // Scores up to 40, growing along the keys: every tile moves the reference. 2^-11 of 40 is an error of 2 % in a probability.
    data["q"] = new Float32Array(130 * 32).map((_, i) =>
      i % 32 === 0 ? Math.sqrt(32) : data["q"]![i]! * 0.1,
    );
    data["k"] = new Float32Array(130 * 32).map((_, i) =>
      i % 32 === 0 ? Math.floor((i / 32) * 0.3) : data["k"]![i]! * 0.1,
    );
    expect(await compare(calls[0], data)).toBe(true);
  });
});

describe("attention on matrices without a driver", () => {
  let nothing: Gpu;
  beforeAll(async () => {
    nothing = await openGpu({ backend: "null" });
  });
  afterAll(async () => {
    await nothing.destroy();
  });

  for (const [name, traits] of Object.entries(VENDORS)) {
    it(`the shaders for ${name} are valid`, async () => {
      let shaders = 0;
      for (const c of MATRIX_CASES) {
        const [forward, , backwardQ, backwardKv] = inputs({ ...c, half: true }).calls;
        for (const call of [forward, backwardQ, backwardKv]) {
          const variant = matrixOf(call);
          if (!variant.accepts(call, traits)) continue;
          shaders++;
          const code = expandWgsl(variant.file, variant.defines(call, traits));
          expect(misplacing(code), describeCase(c)).toEqual([]);
          const module = nothing.device.createShaderModule({ code });
          const { messages } = await module.getCompilationInfo();
          expect(messages.filter((m) => m.type === "error").map((m) => m.message)).toEqual([]);
        }
      }
      expect(shaders).toBeGreaterThan(0);
      nothing.check();
    });

    it(`${name} has matrices for heads of 64 and 128, and the grid covers all rows`, () => {
      for (const headDim of [64, 128]) {
        for (const N of [5, 33, 129]) {
          const c = { lengths: [N], heads: 4, kvHeads: 2, headDim, window: 0, half: true };
          const [forward, , backwardQ, backwardKv] = inputs(c).calls;
          for (const [call, heads] of [
            [forward, 4],
            [backwardQ, 4],
            [backwardKv, 2],
          ] as const) {
            const variant = matrixOf(call);
            expect(variant.accepts(call, traits), `${call.kernel.name} ${headDim}`).toBe(true);
            const d = variant.defines(call, traits);
            const rows = ["SUBGROUPS_M", "TM", "MATRIX_M"].reduce((p, n) => p * Number(d[n]), 1);
            expect(variant.grid(call, d)).toEqual([Math.ceil(N / rows) * heads, 1, 1]);
          }
        }
      }
    });
  }

  it("are chosen only where a call allows f16 and the adapter has matrices", () => {
    for (const c of MATRIX_CASES) {
      for (const traits of [context.gpu.traits, ...Object.values(VENDORS)]) {
        for (const call of inputs(c).calls)
          expect(call.kernel.variants.find((v) => v.name === "matrix")?.accepts(call, traits)).not.toBe(true);
      }
      for (const call of inputs({ ...c, half: true }).calls)
        expect(
          call.kernel.variants.find((v) => v.name === "matrix")?.accepts(call, PORTABLE_TRAITS),
        ).not.toBe(true);
    }
  });
});
