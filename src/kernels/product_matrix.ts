/** Products through subgroup matrices ("tensor cores"): f16 inputs and f32 sums, where the call allows f16 and the adapter has them. */
import type { AdapterTraits, MatrixShape } from "../gpu/traits.js";
import { option, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { hasVec4Low, hasVec4Rows, hasVec4Weights, isAligned } from "./product_layout.js";
import { matrixSubgroup } from "./subgroup_size.js";

const FEATURES = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];
/** Fewer tokens are the vector variant's. */
const FEWEST_TOKENS = 5;
/** Padding of a tile's rows in f16: rows stay multiples of 16 bytes and start at different banks. */
const PAD = 8;

/** How a workgroup is built; `product_matrix.wgsl` says what the names mean. */
interface Build {
  /** Which subgroup size, where the adapter leaves a choice. */
  readonly subgroup: "smallest" | "largest";
  readonly lanes: number;
  /** Subgroups side by side; "square": as many as one below the other, or half. */
  readonly side: 1 | "square";
  /** Result matrices of a subgroup, one below the other and side by side. */
  readonly TM: number;
  readonly TN: number;
  readonly DEPTH: number;
  /** Rows of x that are on their way at a time. */
  readonly BATCH: number;
  /** Backward: the most terms of a column of W that a lane turns at a time. */
  readonly TERMS: number;
  /** The most left matrices of one row that are held at a time. */
  readonly CHAIN: number;
  /** Steps of a tile that follow its loop. */
  readonly PEELED: 0 | 1;
}

const COMMON = { subgroup: "smallest", side: "square", TERMS: 4, CHAIN: 1, PEELED: 0 } as const;

/**
 * Intel's compiler keeps sums in place under conditions (PEELED), and each load needs an address of its own: chains of three. On the
 * A770 a right matrix takes a quarter of a left one's instructions, so one left matrix serves six.
 */
const INTEL = { ...COMMON, side: 1, DEPTH: 64, BATCH: 1, TERMS: 2, CHAIN: 3, PEELED: 1 } as const;

/** What compiled best (npm run bench:gpus). A subgroup of 32 lanes or more holds 4 x 4 matrices of 16 x 16 in 128 registers. */
const BUILDS = {
  arc: { ...INTEL, lanes: 96, TM: 1, TN: 6 },
  xe2: { ...INTEL, lanes: 128, TM: 2, TN: 2 },
  amd: { ...COMMON, subgroup: "largest", lanes: 256, TM: 4, TN: 4, DEPTH: 32, BATCH: 4 },
  wide: { ...COMMON, lanes: 128, TM: 4, TN: 4, DEPTH: 32, BATCH: 4 },
  narrow: { ...COMMON, lanes: 128, TM: 2, TN: 2, DEPTH: 16, BATCH: 1 },
} as const satisfies Record<string, Build>;

function buildFor(traits: AdapterTraits): Build {
  if (traits.vendor === "intel") return traits.subgroupMinSize < 16 ? BUILDS.arc : BUILDS.xe2;
  if (traits.vendor === "amd") return BUILDS.amd;
  return traits.vendor === "apple" || traits.subgroupMinSize >= 32 ? BUILDS.wide : BUILDS.narrow;
}

const volume = (s: MatrixShape): number => s.M * s.N * s.K;

/** The largest f16 matrices with f32 results of which a lane holds part of one column. */
function bestMatrix(build: Build, lanes: number, traits: AdapterTraits): MatrixShape | undefined {
  const fits = (s: MatrixShape): boolean =>
    s.componentType === "f16" &&
    s.resultComponentType === "f32" &&
    build.DEPTH % s.K === 0 &&
    lanes % s.N === 0 &&
    s.M % (lanes / s.N) === 0;
  return traits.matrixShapes.filter(fits).toSorted((a, b) => volume(b) - volume(a))[0];
}

/** The defines of a tile, or nothing where the adapter has no fitting matrices. */
export function matrixTile(call: Call, traits: AdapterTraits): Defines | undefined {
  const build = buildFor(traits);
  const lanes = matrixSubgroup(build.subgroup, traits);
  if (lanes === 0 || build.lanes % lanes !== 0 || build.lanes > traits.maxWorkgroupInvocations)
    return undefined;
  const isFixed = traits.subgroupMinSize === traits.subgroupMaxSize;
  const matrix = bestMatrix(build, lanes, traits);
  if (!matrix) return undefined;
  const subgroups = build.lanes / lanes;
  const SUBGROUPS_N = build.side === 1 ? 1 : 2 ** Math.floor(Math.log2(subgroups) / 2);
  const SUBGROUPS_M = subgroups / SUBGROUPS_N;
  const { TN, DEPTH } = build;
  // Few tokens: a lower tile, but of no less than two matrices, if there are two, since these share what is loaded for them.
  const needed = Math.ceil(size(call, "N") / (SUBGROUPS_M * matrix.M));
  const TM = Math.min(build.TM, 2 ** Math.ceil(Math.log2(Math.max(2, needed))));
  const [rows, columns] = [SUBGROUPS_M * TM * matrix.M, SUBGROUPS_N * TN * matrix.N];
  const passes = (rows * DEPTH) / (4 * build.lanes);
  const bytes =
    2 * (rows + columns) * (DEPTH / matrix.K) * (matrix.K + PAD) +
    4 * (2 * rows + 1 + 16 + subgroups * matrix.M * matrix.N);
  const staged = (columns * DEPTH) / 8 / build.lanes;
  const isWhole = columns % build.lanes === 0 || build.lanes % columns === 0;
  if (bytes > traits.maxWorkgroupBytes || !isWhole || ![passes, staged].every(Number.isInteger))
    return undefined;
  const steps = DEPTH / matrix.K - build.PEELED;
  return {
    LANES_PER_SUBGROUP: lanes,
    SUBGROUP_SIZE: traits.features.has("subgroup-size-control") && !isFixed ? lanes : 0,
    MATRIX_M: matrix.M,
    MATRIX_N: matrix.N,
    MATRIX_K: matrix.K,
    TM,
    TN,
    SUBGROUPS_M,
    SUBGROUPS_N,
    DEPTH,
    PAD,
    BATCH: Math.min(build.BATCH, passes),
    TERMS: Math.min(build.TERMS, staged),
    CHAIN: steps % build.CHAIN === 0 ? build.CHAIN : 1,
    PEELED: build.PEELED,
  };
}

const defines = (call: Call, traits: AdapterTraits): Defines => ({
  ...call.options,
  ...matrixTile(call, traits),
  X_VEC4: hasVec4Rows(call),
  W_VEC4: hasVec4Weights(call),
  B_VEC4: hasVec4Low(call),
  ALIGNED: isAligned(call),
});

export const matrixVariant: Variant = {
  name: "matrix",
  file: "product_matrix.wgsl",
  accepts: (call, traits) =>
    option(call, "HALF") === 1 &&
    size(call, "N") >= FEWEST_TOKENS &&
    FEATURES.every((f) => traits.features.has(f)) &&
    matrixTile(call, traits) !== undefined,
  defines,
  grid: (call, d) => {
    const product = (...names: string[]): number => names.reduce((p, name) => p * Number(d[name]), 1);
    return [
      Math.ceil(size(call, "M") / product("SUBGROUPS_N", "TN", "MATRIX_N")),
      Math.ceil(size(call, "N") / product("SUBGROUPS_M", "TM", "MATRIX_M")),
      1,
    ];
  },
};
