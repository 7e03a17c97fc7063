import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import { expandWgsl } from "../../src/gpu/wgsl.js";
import { matrixVariant } from "../../src/kernels/product_matrix.js";
import type { Call, Defines, Variant } from "../../src/program/kernel.js";
import { compareWithTwin, expectClose, runTwin, runVariants, useGpu } from "./harness.js";
import { VENDORS } from "./matrix_vendors.js";
import { backward, CASES, describeCase, forward, type Case } from "./product_calls.js";

const context = useGpu();

/**
 * Both factors are rounded to f16, 2^-12 of each on average. Relative to the largest of many sums of random terms that leaves
 * about 2^-12; 3e-4 was seen.
 */
const TOLERANCE = 5e-4;
/** The largest result of a single row is smaller; 6e-4 was seen. */
const ROW_TOLERANCE = 1e-3;

const MATRIX_CASES: readonly Case[] = [
  ...CASES.filter((c) => c.N > 4),
  { format: "nf4 nested", N: 130, in: 576, out: 200, rank: 16, scaleBias: true, residual: true },
  { format: "nf4", N: 65, in: 65, out: 129, rank: 33 },
];

const hasMatrices = (): boolean => context.gpu.traits.matrixShapes.some((s) => s.componentType === "f16");

describe("matrix products", () => {
  for (const c of MATRIX_CASES) {
    it(`equal their twins: ${describeCase(c)}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      for (const build of [forward, backward]) {
        const { call, data } = build({ ...c, half: true });
        const how = { tolerance: TOLERANCE, data, only: ["matrix"] };
        expect(await compareWithTwin(context.gpu, call, how)).toEqual(["matrix"]);
      }
    });
  }

  it("are chosen only where a call allows f16", () => {
    const c = CASES.find((each) => each.N > 4) as Case;
    for (const build of [forward, backward]) {
      for (const traits of [context.gpu.traits, ...Object.values(VENDORS)])
        expect(matrixVariant.accepts(build(c).call, traits)).toBe(false);
      expect(matrixVariant.accepts(build({ ...c, half: true }).call, PORTABLE_TRAITS)).toBe(false);
    }
  });
});

/** How other adapters' tiles are built, with this one's matrices. */
const CHAINED = { SUBGROUPS_N: 1, DEPTH: 32, BATCH: 1, CHAIN: 3, PEELED: 1 } as const;
const BUILDS: Readonly<Record<string, Defines>> = {
  "chains of three steps, one left matrix": { ...CHAINED, SUBGROUPS_M: 12, TM: 1, TN: 6, TERMS: 2 },
  "chains of three steps, two left matrices": { ...CHAINED, SUBGROUPS_M: 8, TM: 2, TN: 2, TERMS: 1 },
};

describe("the builds of other adapters", () => {
  for (const [name, tile] of Object.entries(BUILDS)) {
    it(`equal the twins: ${name}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      for (const c of MATRIX_CASES.slice(-1)) {
        for (const build of [forward, backward]) {
          const { call, data } = build({ ...c, half: true });
          const variant: Variant = {
            ...matrixVariant,
            defines: (...of) => ({ ...matrixVariant.defines(...of), ...tile }),
          };
          const other = { ...call, kernel: { ...call.kernel, variants: [variant] } };
          const how = { tolerance: TOLERANCE, data, only: ["matrix"] };
          expect(await compareWithTwin(context.gpu, other, how), describeCase(c)).toEqual(["matrix"]);
        }
      }
    });
  }
});

/** Compares row by row, each relative to its own largest result. */
async function compareRows(call: Call, data: Record<string, ArrayBufferView>, width: number): Promise<void> {
  const want = runTwin(call, data)["y"]!;
  const got = (await runVariants(context.gpu, call, data, ["matrix"])).get("matrix")!["y"]!;
  for (let at = 0; at < want.length; at += width) {
    const [mine, twin] = [got, want].map((a) => Float64Array.from(a.subarray(at, at + width)));
    const largest = Math.max(...twin!.map(Math.abs));
    const scaled = [mine!, twin!].map((row) => row.map((v) => (largest > 0 ? v / largest : v)));
    expectClose(scaled[0]!, scaled[1]!, ROW_TOLERANCE, `row ${at / width}`);
  }
}

describe("values far outside f16's range", () => {
  const SIZES = [1e-30, 1e-12, 1e-7, 1, 1e5, 1e12, 1e30, 0];

  for (const build of [forward, backward]) {
    it(`rows of ${SIZES.join(", ")} in one tile, ${build.name}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      const { call, data } = build({ format: "nf4", N: 40, in: 64, out: 128, half: true });
      const x = data["x"] as Float32Array;
      const width = x.length / 40;
      data["x"] = x.map((v, i) => v * SIZES[Math.floor(i / width) % SIZES.length]!);
      await compareRows(call, data, build === forward ? 128 : 64);
    });

    it(`a row of one huge value among ordinary ones, ${build.name}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      const { call, data } = build({ format: "f32", N: 8, in: 64, out: 64, half: true });
      // The massive activations of real models: 1e5 beside 1, which keeps 2^-11 of itself or 2^-24 of the largest.
      data["x"] = (data["x"] as Float32Array).map((v, i) => (i % 64 === 7 ? 1e5 : v));
      await compareRows(call, data, 64);
    });
  }

  for (const [p, b] of [
    [1e6, 1e-9],
    [1e-9, 1e6],
    [1e8, 1],
    [1, 1e-8],
  ] as const) {
    it(`low-rank factors of sizes ${p} and ${b}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      for (const build of [forward, backward]) {
        const { call, data } = build({ format: "f32", N: 40, in: 64, out: 64, rank: 16, half: true });
        data["p"] = (data["p"] as Float32Array).map((v) => v * p);
        data["b"] = (data["b"] as Float32Array).map((v) => v * b);
        // What the base adds is as large as what the factors add: neither hides the other.
        data["values"] = (data["values"] as Float32Array).map((v) => v * 0.5);
        data["x"] = (data["x"] as Float32Array).map((v) => v * p * b);
        await compareRows(call, data, 64);
      }
    });
  }
});

describe("matrix products without a driver", () => {
  let nothing: Gpu;
  beforeAll(async () => {
    nothing = await openGpu({ backend: "null" });
  });
  afterAll(async () => {
    await nothing.destroy();
  });

  for (const [name, traits] of Object.entries(VENDORS)) {
    it(`the shaders for ${name} are valid`, async () => {
      for (const c of MATRIX_CASES) {
        for (const build of [forward, backward]) {
          const { call } = build({ ...c, half: true });
          expect(matrixVariant.accepts(call, traits), describeCase(c)).toBe(true);
          const code = expandWgsl(matrixVariant.file, matrixVariant.defines(call, traits));
          const module = nothing.device.createShaderModule({ code });
          const { messages } = await module.getCompilationInfo();
          expect(messages.filter((m) => m.type === "error").map((m) => m.message)).toEqual([]);
        }
      }
      nothing.check();
    });
  }

  it("covers the result with the grid", () => {
    for (const traits of Object.values(VENDORS)) {
      for (const N of [5, 33, 129, 1000]) {
        const { call } = forward({ format: "f32", N, in: 64, out: 321, half: true });
        const d = matrixVariant.defines(call, traits);
        const [x, y] = matrixVariant.grid(call, d);
        const of = (...names: string[]): number => names.reduce((p, n) => p * Number(d[n]), 1);
        expect(x * of("SUBGROUPS_N", "TN", "MATRIX_N")).toBeGreaterThanOrEqual(321);
        expect(y * of("SUBGROUPS_M", "TM", "MATRIX_M")).toBeGreaterThanOrEqual(N);
        expect((y - 1) * of("SUBGROUPS_M", "TM", "MATRIX_M")).toBeLessThan(N);
      }
    }
  });
});
