/** Attention on subgroup matrices: f16 inputs and f32 sums, where the call allows f16 and the adapter has matrices that fit. */
import type { AdapterTraits, MatrixShape } from "../gpu/traits.js";
import { grid1d, option, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { readableHeads } from "./attention_software.js";
import { matrixSubgroup } from "./subgroup_size.js";

const FEATURES = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];

/** f16 of padding of a row of operands, f32 of a row of scores. */
const [PAD, SCORE_PAD] = [8, 4];

/** Subgroups one below the other and side by side, and matrices of scores of a subgroup one below the other. */
type Shape = readonly [SUBGROUPS_M: number, SUBGROUPS_N: number, TM: number];

interface Build {
  /** Which subgroup size, where the adapter leaves a choice. */
  readonly subgroup: "smallest" | "largest";
  /** Columns of scores at a time, and terms of a chunk of the head. */
  readonly COLUMNS: number;
  /** The first that fits is taken: those with more rows stage less. */
  readonly shapes: readonly Shape[];
  /** Numbers of a lane that results may take. */
  readonly registers: number;
  /** Whether two results are made one after the other: scores twice, half the registers. 0: not at all, they would spill. */
  readonly PASSES: 0 | 1 | 2;
}

const WIDE = {
  subgroup: "smallest",
  COLUMNS: 32,
  shapes: [
    [2, 2, 2],
    [2, 2, 1],
    [1, 2, 1],
  ],
  registers: 128,
  PASSES: 1,
} as const satisfies Build;

/**
 * What compiled best (npm run bench:gpus). Two matrices of scores one below the other share what is loaded for them. Intel's
 * compiler copies all results in every round of a loop, so a lane gets few: many columns, which many subgroups share.
 */
const BUILDS = {
  arc: {
    subgroup: "smallest",
    COLUMNS: 64,
    shapes: [
      [4, 8, 1],
      [2, 8, 1],
    ],
    registers: 16,
    PASSES: 0,
  },
  xe2: {
    subgroup: "smallest",
    COLUMNS: 64,
    shapes: [
      [4, 4, 1],
      [2, 4, 1],
    ],
    registers: 16,
    PASSES: 2,
  },
  amd: { ...WIDE, subgroup: "largest" },
  wide: WIDE,
  narrow: {
    subgroup: "smallest",
    COLUMNS: 32,
    shapes: [
      [4, 4, 1],
      [2, 4, 1],
    ],
    registers: 256,
    PASSES: 1,
  },
} as const satisfies Record<string, Build>;

function buildFor(traits: AdapterTraits): Build {
  if (traits.vendor === "intel") return traits.subgroupMinSize < 16 ? BUILDS.arc : BUILDS.xe2;
  if (traits.vendor === "amd") return BUILDS.amd;
  return traits.vendor === "apple" || traits.subgroupMinSize >= 32 ? BUILDS.wide : BUILDS.narrow;
}

/** What the three kernels differ in: own operands (and kinds of scores), and results. */
interface Operation {
  readonly owns: 1 | 2;
  readonly results: 1 | 2;
}

function workgroupBytes(rows: number, width: number, COLUMNS: number, { owns, results }: Operation): number {
  const row = 2 * (COLUMNS + PAD);
  const chunks = width / COLUMNS;
  const operands = (owns * rows + COLUMNS) * chunks * row;
  const scores = owns * rows * 4 * (COLUMNS + SCORE_PAD) + results * rows * row;
  return operands + scores + 4 * rows + 16 + 8 * COLUMNS + 4;
}

/** The defines of a tile, or nothing where the adapter has no matrices of which one fits. */
export function matrixAttention(
  call: Call,
  traits: AdapterTraits,
  operation: Operation,
): Defines | undefined {
  const build = buildFor(traits);
  const { COLUMNS } = build;
  const PASSES = operation.results === 1 ? 1 : build.PASSES;
  const lanes = matrixSubgroup(build.subgroup, traits);
  if (lanes === 0 || PASSES === 0) return undefined;
  const width = Math.ceil(option(call, "HEAD_DIM") / COLUMNS) * COLUMNS;
  const fits = (m: MatrixShape, [SUBGROUPS_M, SUBGROUPS_N, TM]: Shape): boolean => {
    const rows = SUBGROUPS_M * TM * m.M;
    const all = SUBGROUPS_M * SUBGROUPS_N * lanes;
    const parts = all / rows;
    const held = (operation.results / PASSES) * ((TM * m.M * width) / SUBGROUPS_N / lanes);
    return (
      all >= COLUMNS &&
      all <= traits.maxWorkgroupInvocations &&
      Number.isInteger(COLUMNS / (SUBGROUPS_N * m.N)) &&
      Number.isInteger(Math.log2(parts)) &&
      parts >= 1 &&
      parts <= Math.min(lanes, COLUMNS) &&
      held <= build.registers &&
      workgroupBytes(rows, width, COLUMNS, operation) <= traits.maxWorkgroupBytes
    );
  };
  const [best] = traits.matrixShapes
    .filter(
      (m) =>
        m.componentType === "f16" &&
        m.resultComponentType === "f32" &&
        COLUMNS % m.K === 0 &&
        (m.M * m.N) % lanes === 0,
    )
    .toSorted((a, b) => b.M * b.N * b.K - a.M * a.N * a.K)
    .flatMap((matrix) => {
      const shape = build.shapes.find((s) => fits(matrix, s));
      return shape ? [{ matrix, shape }] : [];
    });
  if (!best) return undefined;
  const { matrix, shape } = best;
  const [SUBGROUPS_M, SUBGROUPS_N, TM] = shape;
  const isFixed = traits.subgroupMinSize === traits.subgroupMaxSize;
  return {
    LANES_PER_SUBGROUP: lanes,
    SUBGROUP_SIZE: traits.features.has("subgroup-size-control") && !isFixed ? lanes : 0,
    MATRIX_M: matrix.M,
    MATRIX_N: matrix.N,
    MATRIX_K: matrix.K,
    SUBGROUPS_M,
    SUBGROUPS_N,
    TM,
    TN: COLUMNS / (SUBGROUPS_N * matrix.N),
    TO: width / (SUBGROUPS_N * matrix.N),
    COLUMNS,
    PASSES,
  };
}

/** @param headsOf heads whose rows are spread over workgroups */
export function matrixAttentionVariant(
  file: string,
  operation: Operation,
  headsOf: (call: Call) => number,
): Variant {
  return {
    name: "matrix",
    file,
    accepts: (call, traits) =>
      option(call, "HALF") === 1 &&
      readableHeads(call) &&
      FEATURES.every((f) => traits.features.has(f)) &&
      matrixAttention(call, traits, operation) !== undefined,
    defines: (call, traits) => ({
      ...call.options,
      ...(operation.owns === 2 && { BACKWARD: true }),
      ...matrixAttention(call, traits, operation),
    }),
    grid: (call, d) => {
      const rows = ["SUBGROUPS_M", "TM", "MATRIX_M"].reduce((p, name) => p * Number(d[name]), 1);
      return grid1d(Math.ceil(size(call, "N") / rows) * headsOf(call));
    },
  };
}
