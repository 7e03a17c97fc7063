/** Products through subgroup matrices ("tensor cores"): f16 inputs and f32 sums, where the call allows f16 and the adapter has them. */
import type { AdapterTraits, MatrixShape } from "../gpu/traits.js";
import { option, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import {
  besideLarge,
  hasVec4Low,
  hasVec4Rows,
  hasVec4Weights,
  isAligned,
  MOST_VECTOR_TOKENS,
} from "./product_layout.js";
import { matrixSubgroup } from "./subgroup_size.js";

const FEATURES = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];
/** Padding of a tile's rows in f16: rows stay multiples of 16 bytes and start at different banks. */
const PAD = 8;

/** How a workgroup is built; `product_matrix.wgsl` says what the names mean. */
interface Build {
  /** Which subgroup size, where the adapter leaves a choice. */
  readonly subgroup: "smallest" | "largest";
  readonly lanes: number;
  /** Subgroups side by side; "square": as many as one below the other, or half; "wide": or in the forward direction twice. */
  readonly side: 1 | "square" | "wide";
  /** Result matrices of a subgroup, one below the other and side by side. */
  readonly TM: number;
  readonly TN: number;
  /** Terms of a tile. */
  readonly DEPTH: number;
  /** What is different where values are sums of two f16, which take twice the room. */
  readonly split: Partial<Build>;
  /** Rows of x that are on their way at a time; AHEAD has all. */
  readonly BATCH?: number;
  /** Backward: the most terms of a column of W that a lane turns at a time. */
  readonly TERMS: number;
  /** The most left matrices of one row that are held at a time. */
  readonly CHAIN: number;
  /** Steps of a tile that follow its loop. */
  readonly PEELED: 0 | 1;
  /** Whether registers are many: the next tile is loaded while this one is multiplied, and lanes store where no other lane's bank is. */
  readonly AHEAD: 0 | 1;
}

const COMMON = {
  subgroup: "smallest",
  side: "square",
  split: { DEPTH: 16 },
  BATCH: 4,
  TERMS: 4,
  CHAIN: 1,
  PEELED: 0,
  AHEAD: 0,
} as const;

const AHEAD = { TERMS: 1, AHEAD: 1 } as const;

/**
 * Intel's compiler keeps sums in place under conditions (PEELED), and each load needs an address of its own: chains of three. On the
 * A770 a right matrix takes a quarter of a left one's instructions, so one left matrix serves six.
 */
const INTEL = {
  ...COMMON,
  side: 1,
  DEPTH: 64,
  split: { DEPTH: 32 },
  BATCH: 1,
  TERMS: 2,
  CHAIN: 3,
  PEELED: 1,
} as const;

/**
 * What compiled best (npm run bench:gpus), and for NVIDIA what an H100 measured fastest: many subgroups of few registers, since what
 * takes time there is staging. A subgroup of 32 lanes or more holds 4 x 4 matrices of 16 x 16 in 128 registers.
 */
const BUILDS = {
  arc: { ...INTEL, lanes: 96, TM: 1, TN: 6 },
  xe2: { ...INTEL, lanes: 128, TM: 2, TN: 2 },
  amd: { ...COMMON, subgroup: "largest", lanes: 256, TM: 4, TN: 4, DEPTH: 32 },
  nvidia: { ...COMMON, ...AHEAD, side: "wide", lanes: 512, TM: 2, TN: 2, DEPTH: 32, split: { lanes: 256 } },
  wide: { ...COMMON, lanes: 128, TM: 4, TN: 4, DEPTH: 32 },
  narrow: { ...COMMON, lanes: 128, TM: 2, TN: 2, DEPTH: 16, BATCH: 1 },
} as const satisfies Record<string, Build>;

/** The same with a quarter of the results (on NVIDIA half), for few workgroups. Intel's have no more than those. */
const SMALL_BUILDS: Partial<Record<keyof typeof BUILDS, Build>> = {
  amd: { ...BUILDS.amd, TM: 2, TN: 2 },
  nvidia: { ...BUILDS.nvidia, lanes: 256, DEPTH: 64, split: { lanes: 128, DEPTH: 16 } },
  wide: { ...BUILDS.wide, TM: 2, TN: 2 },
  narrow: { ...BUILDS.narrow, lanes: 32 },
};

function kindOf(traits: AdapterTraits): keyof typeof BUILDS {
  if (traits.vendor === "intel") return traits.subgroupMinSize < 16 ? "arc" : "xe2";
  if (traits.vendor === "amd" || traits.vendor === "nvidia") return traits.vendor;
  return traits.vendor === "apple" || traits.subgroupMinSize >= 32 ? "wide" : "narrow";
}

type BuildFor = (traits: AdapterTraits) => Build | undefined;
const largeBuild = (traits: AdapterTraits): Build => BUILDS[kindOf(traits)];
const smallBuild: BuildFor = (traits) => SMALL_BUILDS[kindOf(traits)];

const volume = (s: MatrixShape): number => s.M * s.N * s.K;

/** The largest f16 matrices with f32 results of which a lane holds part of one column. */
function bestMatrix(DEPTH: number, lanes: number, traits: AdapterTraits): MatrixShape | undefined {
  const fits = (s: MatrixShape): boolean =>
    s.componentType === "f16" &&
    s.resultComponentType === "f32" &&
    DEPTH % s.K === 0 &&
    lanes % s.N === 0 &&
    s.M % (lanes / s.N) === 0;
  return traits.matrixShapes.filter(fits).toSorted((a, b) => volume(b) - volume(a))[0];
}

/** Whether the adapter has matrices on which products can run. */
export function hasHalfMatrices(traits: AdapterTraits): boolean {
  const build = largeBuild(traits);
  const lanes = matrixSubgroup(build.subgroup, traits);
  return (
    FEATURES.every((f) => traits.features.has(f)) &&
    lanes > 0 &&
    bestMatrix(build.DEPTH, lanes, traits) !== undefined
  );
}

/** The defines of a tile, or nothing where the adapter has no fitting matrices. */
export function matrixTile(
  call: Call,
  traits: AdapterTraits,
  buildFor: BuildFor = largeBuild,
): Defines | undefined {
  const plain = buildFor(traits);
  if (!plain) return undefined;
  const isSplit = option(call, "SPLIT") === 1;
  const build = isSplit ? { ...plain, ...plain.split } : plain;
  const lanes = matrixSubgroup(build.subgroup, traits);
  if (lanes === 0 || build.lanes % lanes !== 0 || build.lanes > traits.maxWorkgroupInvocations)
    return undefined;
  const isFixed = traits.subgroupMinSize === traits.subgroupMaxSize;
  const { DEPTH } = build;
  const X_TERMS = isSplit ? 2 : 1;
  // f16 holds what is stored in 16 bits (of bf16 all but numbers that are next to nothing), but not B, which is in the tiles of W: without
  // AHEAD both share a loop, so that W has rests too.
  const hasLow = option(call, "LOWRANK") === 1;
  const isHeld = option(call, "BF16") + option(call, "F16") > 0 && (!hasLow || build.AHEAD === 1);
  const W_TERMS = isSplit && !isHeld ? 2 : 1;
  const TILE_TERMS = hasLow ? X_TERMS : W_TERMS;
  const matrix = bestMatrix(DEPTH, lanes, traits);
  if (!matrix) return undefined;
  const subgroups = build.lanes / lanes;
  const half = Math.log2(subgroups) / 2;
  const isWide = build.side === "wide" && option(call, "BACKWARD") === 0;
  const SUBGROUPS_N = build.side === 1 ? 1 : 2 ** (isWide ? Math.ceil(half) : Math.floor(half));
  const SUBGROUPS_M = subgroups / SUBGROUPS_N;
  const { TN } = build;
  // Few tokens: a lower tile, of at least four values of x for each lane, and of no less than two matrices, if there are two, since these
  // share what is loaded for them.
  const needed = Math.ceil(size(call, "N") / (SUBGROUPS_M * matrix.M));
  const least = Math.max(1, (4 * build.lanes) / (DEPTH * SUBGROUPS_M * matrix.M));
  const TM = Math.max(least, Math.min(build.TM, 2 ** Math.ceil(Math.log2(Math.max(2, needed)))));
  const [rows, columns] = [SUBGROUPS_M * TM * matrix.M, SUBGROUPS_N * TN * matrix.N];
  const passes = (rows * DEPTH) / (4 * build.lanes);
  // Of a row of a tile.
  const row = build.AHEAD ? DEPTH + PAD : (DEPTH / matrix.K) * (matrix.K + PAD);
  const scaleMap = build.AHEAD && option(call, "DOUBLE") === 1 ? 256 : 0;
  const bytes =
    2 * (X_TERMS * rows + TILE_TERMS * columns) * row +
    4 * (2 * rows + 4 + 16 + scaleMap + subgroups * matrix.M * matrix.N);
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
    X_TERMS,
    W_TERMS,
    TILE_TERMS,
    PAD,
    BATCH: build.AHEAD ? passes : Math.min(build.BATCH ?? 1, passes),
    TERMS: Math.min(build.TERMS, staged),
    CHAIN: steps % build.CHAIN === 0 ? build.CHAIN : 1,
    PEELED: build.PEELED,
    AHEAD: build.AHEAD,
  };
}

/**
 * Three products of matrices for one (two where f16 holds W) still take 0.6 of a plain tile's time on NVIDIA (bench/GPUS.md), but about
 * all of it on AMD and Intel (npm run bench:gpus): there such calls stay f32.
 */
const splitPays = (traits: AdapterTraits): boolean => traits.vendor === "nvidia" || traits.isSoftware;

function grid(call: Call, d: Defines): readonly [number, number, number] {
  const product = (...names: string[]): number => names.reduce((p, name) => p * Number(d[name]), 1);
  return [
    Math.ceil(size(call, "M") / product("SUBGROUPS_N", "TN", "MATRIX_N")),
    Math.ceil(size(call, "N") / product("SUBGROUPS_M", "TM", "MATRIX_M")),
    1,
  ];
}

function variant(name: string, buildFor: BuildFor): Variant {
  return {
    name,
    file: "product_matrix.wgsl",
    accepts: (call, traits) =>
      option(call, "HALF") === 1 &&
      (option(call, "SPLIT") === 0 || splitPays(traits)) &&
      size(call, "N") > MOST_VECTOR_TOKENS &&
      FEATURES.every((f) => traits.features.has(f)) &&
      matrixTile(call, traits, buildFor) !== undefined,
    defines: (call, traits) => ({
      ...call.options,
      ...matrixTile(call, traits, buildFor),
      X_VEC4: hasVec4Rows(call),
      W_VEC4: hasVec4Weights(call),
      B_VEC4: hasVec4Low(call),
      ALIGNED: isAligned(call),
    }),
    grid,
  };
}

export const matrixVariant = variant("matrix", largeBuild);

export const smallMatrixVariant = besideLarge(matrixVariant, variant("small_matrix", smallBuild));
