import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import { expandWgsl } from "../../src/gpu/wgsl.js";
import { matrixVariant, smallMatrixVariant } from "../../src/kernels/product_matrix.js";
import { option, type Call, type Defines, type Variant } from "../../src/program/kernel.js";
import { compareWithTwin, expectClose, runTwin, runVariants, useGpu } from "./harness.js";
import { misplacing, VENDORS } from "./matrix_vendors.js";
import { backward, CASES, describeCase, forward, forwardCall, type Case } from "./product_calls.js";
import { testWeight } from "./product_data.js";

const context = useGpu();

/**
 * Both factors are rounded to f16, 2^-12 of each on average. Relative to the largest of many sums of random terms that leaves
 * about 2^-12; 3e-4 was seen.
 */
const TOLERANCE = 5e-4;
/** The largest result of a single row is smaller; 6e-4 was seen. */
const ROW_TOLERANCE = 1e-3;
/** Sums of two f16 keep 22 bits of a factor, fewer of weights below 2^-3 (f16 ends at 2^-24); sums of products are f32. */
const SPLIT_TOLERANCE = 3e-6;
const SPLIT_ROW_TOLERANCE = 3e-6;

/** What a product may do with f16, by name. */
const BUILDS = [
  {
    name: "forward",
    build: (c: Case) => forward({ ...c, half: true }),
    tolerance: TOLERANCE,
    rows: ROW_TOLERANCE,
  },
  {
    name: "backward",
    build: (c: Case) => backward({ ...c, half: true }),
    tolerance: TOLERANCE,
    rows: ROW_TOLERANCE,
  },
  {
    name: "forward, split",
    build: (c: Case) => forward({ ...c, half: "split" }),
    tolerance: SPLIT_TOLERANCE,
    rows: SPLIT_ROW_TOLERANCE,
  },
] as const;

const ROUNDED_BUILDS = BUILDS.filter(({ name }) => name !== "forward, split");

const MATRIX_CASES: readonly Case[] = [
  ...CASES.filter((c) => c.N > 4),
  { format: "nf4 nested", N: 130, in: 576, out: 200, rank: 16, scaleBias: true, residual: true },
  { format: "nf4", N: 65, in: 65, out: 129, rank: 33 },
];
/** The software GPU takes some seconds for such a shader: one for each kind of weights. */
const SPLIT_CASES: readonly Case[] = [
  { format: "nf4 nested", N: 33, in: 192, out: 72, rank: 16, scaleBias: true, blockSize: 64 },
  { format: "nf4", N: 65, in: 65, out: 129, rank: 33 },
  { format: "int8", N: 17, in: 72, out: 40, rank: 7 },
  { format: "bf16", N: 9, in: 40, out: 33, rank: 16 },
  { format: "f16", N: 19, in: 48, out: 65 },
];

const hasMatrices = (): boolean => context.gpu.traits.matrixShapes.some((s) => s.componentType === "f16");

describe("matrix products", () => {
  for (const [i, c] of MATRIX_CASES.entries()) {
    it(`equal their twins: ${describeCase(c)}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      for (const { build, tolerance } of ROUNDED_BUILDS) {
        const { call, data } = build(c);
        // Small tiles differ by the tile's sizes alone.
        const names = i % 3 === 0 ? ["matrix", "small_matrix"] : ["matrix"];
        const how = { tolerance, data, only: names };
        expect(await compareWithTwin(context.gpu, call, how)).toEqual(names);
      }
    });
  }

  for (const c of SPLIT_CASES) {
    it(`equal their twins, split: ${describeCase(c)}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      const { call, data } = forward({ ...c, half: "split" });
      const names = c === SPLIT_CASES[0] ? ["matrix", "small_matrix"] : ["matrix"];
      const how = { tolerance: SPLIT_TOLERANCE, data, only: names };
      expect(await compareWithTwin(context.gpu, call, how)).toEqual(names);
    });
  }

  it("have small tiles where large ones leave a large GPU idle", () => {
    for (const [name, traits] of Object.entries(VENDORS)) {
      for (const [N, out, isSmall] of [
        [256, 1024, true],
        [512, 1024, true],
        [2048, 4096, false],
      ] as const) {
        const { weight } = testWeight("f32", out, 8);
        const call = forwardCall({ format: "f32", N, in: 8, out, half: true }, weight);
        const accepts = smallMatrixVariant.accepts(call, traits);
        expect(accepts, `${name}, ${N} x ${out}`).toBe(isSmall && traits.vendor !== "intel");
      }
    }
  });

  it("are chosen only where a call allows f16", () => {
    const c = CASES.find((each) => each.N > 4) as Case;
    for (const build of [forward, backward])
      for (const traits of [context.gpu.traits, ...Object.values(VENDORS)])
        expect(matrixVariant.accepts(build(c).call, traits)).toBe(false);
    for (const { build } of BUILDS) expect(matrixVariant.accepts(build(c).call, PORTABLE_TRAITS)).toBe(false);
  });
});

/** How other adapters' tiles are built, with this one's matrices: a tile's depth is a chain of three of them and one more. */
const chained = (own: Defines): Defines => ({
  SUBGROUPS_N: 1,
  DEPTH: 4 * Number(own["MATRIX_K"]),
  BATCH: 1,
  CHAIN: 3,
  PEELED: 1,
  AHEAD: 0,
});
const lanesOf = (own: Defines): number => Number(own["LANES_PER_SUBGROUP"]);
const OTHER_BUILDS: Readonly<Record<string, (own: Defines) => Defines>> = {
  "chains of three steps, one left matrix": (own) => ({
    ...chained(own),
    SUBGROUPS_M: Math.max(3, 96 / lanesOf(own)),
    TM: 1,
    TN: 6,
    TERMS: 2,
  }),
  "chains of three steps, two left matrices": (own) => ({
    ...chained(own),
    SUBGROUPS_M: Math.min(8, 128 / lanesOf(own)),
    TM: 2,
    TN: 2,
    TERMS: 1,
  }),
};
/** NVIDIA's, which load ahead and store in another order: its large and its small tiles, by this adapter's matrices. */
const AHEAD = { AHEAD: 1, TERMS: 1, BATCH: 8 } as const;
const AHEAD_BUILDS: typeof OTHER_BUILDS = {
  "loading ahead, four lanes for a column": () => ({ ...AHEAD, SUBGROUPS_M: 8, SUBGROUPS_N: 2, DEPTH: 32 }),
  // One matrix below the other is enough here: what is unrolled takes the software GPU long.
  "loading ahead, deeper tiles": () => ({ ...AHEAD, BATCH: 4, TM: 1, DEPTH: 64 }),
};
/** Sums of two f16 as NVIDIA's tiles have them: where f16 holds W, the rests of B alone are in its tiles. */
const aheadSplit = (own: Defines): Defines => ({
  ...AHEAD,
  SUBGROUPS_M: 4,
  SUBGROUPS_N: 4,
  TM: 1,
  TN: 2,
  DEPTH: 16,
  BATCH: 1,
  W_TERMS: own["BF16"] ? 1 : 2,
});
/** The matrix variant with such a build. */
const otherVariant = (build: (own: Defines) => Defines): Variant => ({
  ...matrixVariant,
  defines: (...of) => {
    const own = matrixVariant.defines(...of);
    return { ...own, ...build(own) };
  },
});

/** Builds, and what they are tested with: no whole blocks and words, and whole ones. */
const BUILDS_WITH_CASES = [
  { builds: OTHER_BUILDS, c: MATRIX_CASES.at(-1) as Case },
  {
    builds: AHEAD_BUILDS,
    c: { format: "nf4 nested", N: 9, in: 192, out: 256, rank: 33, scaleBias: true, blockSize: 64 },
  },
] as const;

describe("the builds of other adapters", () => {
  for (const { builds, c } of BUILDS_WITH_CASES) {
    for (const [name, otherBuild] of Object.entries(builds)) {
      it(`equal the twins: ${name}`, async ({ skip }) => {
        skip(!hasMatrices(), "this adapter has no f16 matrices");
        skip(builds === AHEAD_BUILDS && !context.gpu.traits.isSoftware, "this adapter has its own");
        for (const build of [forward, backward]) {
          const { call, data } = build({ ...c, half: true });
          const other = { ...call, kernel: { ...call.kernel, variants: [otherVariant(otherBuild)] } };
          const how = { tolerance: TOLERANCE, data, only: ["matrix"] };
          expect(await compareWithTwin(context.gpu, other, how), describeCase(c)).toEqual(["matrix"]);
        }
      });
    }
  }

  for (const format of ["nf4 nested", "bf16"] as const) {
    it(`equal the twins: loading ahead, split, ${format}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      skip(!context.gpu.traits.isSoftware, "this adapter has its own");
      const c: Case = { format, N: 9, in: 192, out: 256, rank: 33, blockSize: 64, half: "split" };
      const { call, data } = forward(c);
      const other = { ...call, kernel: { ...call.kernel, variants: [otherVariant(aheadSplit)] } };
      const how = { tolerance: SPLIT_TOLERANCE, data, only: ["matrix"] };
      expect(await compareWithTwin(context.gpu, other, how), describeCase(c)).toEqual(["matrix"]);
    });
  }
});

/** Compares row by row, each relative to its own largest result. */
async function compareRows(
  call: Call,
  data: Record<string, ArrayBufferView>,
  width: number,
  tolerance: number,
): Promise<void> {
  const want = runTwin(call, data)["y"]!;
  const got = (await runVariants(context.gpu, call, data, ["matrix"])).get("matrix")!["y"]!;
  for (let at = 0; at < want.length; at += width) {
    const [mine, twin] = [got, want].map((a) => Float64Array.from(a.subarray(at, at + width)));
    const largest = Math.max(...twin!.map(Math.abs));
    const scaled = [mine!, twin!].map((row) => row.map((v) => (largest > 0 ? v / largest : v)));
    expectClose(scaled[0]!, scaled[1]!, tolerance, `row ${at / width}`);
  }
}

describe("values far outside f16's range", () => {
  const SIZES = [1e-30, 1e-12, 1e-7, 1, 1e5, 1e12, 1e30, 0];

  for (const { name, build, rows } of BUILDS) {
    it(`rows of ${SIZES.join(", ")} in one tile, ${name}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      const { call, data } = build({ format: "nf4", N: 40, in: 64, out: 128 });
      const x = data["x"] as Float32Array;
      const width = x.length / 40;
      data["x"] = x.map((v, i) => v * SIZES[Math.floor(i / width) % SIZES.length]!);
      await compareRows(call, data, name === "backward" ? 64 : 128, rows);
    });

    it(`rows of W and of the result scaled by 1e-4 to 1e4, ${name}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      const { call, data } = build({ format: "nf4", N: 9, in: 64, out: 128, rank: 8, scaleBias: "scale" });
      const g = data["scale_bias"] as Float32Array;
      data["scale_bias"] = g.map((_, j) => 10 ** ((j % 9) - 4));
      const only = ["matrix"];
      expect(await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data, only })).toEqual(only);
    });

    it(`a row of one huge value among ordinary ones, ${name}`, async ({ skip }) => {
      skip(!hasMatrices(), "this adapter has no f16 matrices");
      const { call, data } = build({ format: "f32", N: 8, in: 64, out: 64 });
      // The massive activations of real models: 1e5 beside 1, which keeps 2^-11 of itself or 2^-24 of the largest.
      data["x"] = (data["x"] as Float32Array).map((v, i) => (i % 64 === 7 ? 1e5 : v));
      await compareRows(call, data, 64, rows);
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
      for (const { build, rows } of BUILDS) {
        const { call, data } = build({ format: "f32", N: 40, in: 64, out: 64, rank: 16 });
        data["p"] = (data["p"] as Float32Array).map((v) => v * p);
        data["b"] = (data["b"] as Float32Array).map((v) => v * b);
        // What the base adds is as large as what the factors add: neither hides the other.
        data["values"] = (data["values"] as Float32Array).map((v) => v * 0.5);
        data["x"] = (data["x"] as Float32Array).map((v) => v * p * b);
        await compareRows(call, data, 64, rows);
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
        for (const { build } of BUILDS) {
          const { call } = build(c);
          // Split inputs pay on NVIDIA alone; the shader is right elsewhere too.
          const isChosen = option(call, "SPLIT") === 0 || traits.vendor === "nvidia";
          expect(matrixVariant.accepts(call, traits), describeCase(c)).toBe(isChosen);
          const hasSmall = smallMatrixVariant.accepts(call, traits);
          expect(hasSmall, describeCase(c)).toBe(isChosen && traits.vendor !== "intel");
          const variants = [matrixVariant, ...(hasSmall ? [smallMatrixVariant] : [])];
          // What tests force on this vendor's adapters.
          if (c === MATRIX_CASES.at(-1) && option(call, "SPLIT") === 0)
            variants.push(...Object.values(OTHER_BUILDS).map(otherVariant));
          for (const variant of variants) {
            const code = expandWgsl(variant.file, variant.defines(call, traits));
            expect(misplacing(code), describeCase(c)).toEqual([]);
            const module = nothing.device.createShaderModule({ code });
            const { messages } = await module.getCompilationInfo();
            expect(messages.filter((m) => m.type === "error").map((m) => m.message)).toEqual([]);
          }
        }
      }
      nothing.check();
    });
  }

  it("covers the result with the grid", () => {
    for (const traits of Object.values(VENDORS)) {
      for (const [N, half] of [5, 33, 129, 1000].flatMap((n) => [
        [n, true] as const,
        [n, "split"] as const,
      ])) {
        const { call } = forward({ format: "f32", N, in: 64, out: 321, half });
        for (const variant of [matrixVariant, smallMatrixVariant]) {
          if (variant === smallMatrixVariant && !variant.accepts(call, traits)) continue;
          const d = variant.defines(call, traits);
          const [x, y] = variant.grid(call, d);
          const of = (...names: string[]): number => names.reduce((p, n) => p * Number(d[n]), 1);
          expect(x * of("SUBGROUPS_N", "TN", "MATRIX_N")).toBeGreaterThanOrEqual(321);
          expect(y * of("SUBGROUPS_M", "TM", "MATRIX_M")).toBeGreaterThanOrEqual(N);
          expect((y - 1) * of("SUBGROUPS_M", "TM", "MATRIX_M")).toBeLessThan(N);
        }
      }
    }
  });
});
