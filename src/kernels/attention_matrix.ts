/** Attention on subgroup matrices: f16 inputs and f32 sums, where the call allows f16 and the adapter has matrices that fit. */
import type { AdapterTraits, MatrixShape } from "../gpu/traits.js";
import { grid1d, option, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { readableHeads } from "./attention_software.js";
import { matrixSubgroup } from "./subgroup_size.js";

const FEATURES = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];

/** f16 of padding of a row of operands, f32 of a row of scores. */
const [PAD, SCORE_PAD] = [8, 4];

/** Subgroups one below the other and side by side; columns of scores at a time, which are also terms of a chunk of the head. */
type Shape = readonly [SUBGROUPS_M: number, SUBGROUPS_N: number, COLUMNS: number];

interface Build {
  /** Which subgroup size, where the adapter leaves a choice. */
  readonly subgroup: "smallest" | "largest";
  /** The first that fits, with the largest matrices that fit, is taken: those with more rows stage less. */
  readonly shapes: readonly Shape[];
  /** Numbers of a lane that results may take. */
  readonly registers: number;
  /** Registers of a lane that own operands may take for good, with results; those that need more are loaded when they are used. */
  readonly held: number;
  /** Chunks of the head in a round, where own operands are loaded. */
  readonly SPAN: 1 | 2;
  /** 2: two results are made one after the other, with scores made twice and half the registers. */
  readonly PASSES: 1 | 2;
  /** Whether registers are scarce: less is staged at a time, and sums are kept in place; a head is one round, whatever SPAN is. */
  readonly FEW: 0 | 1;
  /** Whether they are so scarce that addresses are computed again where they are used. */
  readonly LATE: 0 | 1;
}

const WIDE = {
  subgroup: "smallest",
  shapes: [
    [4, 2, 32],
    [2, 4, 32],
    [2, 2, 32],
    [1, 2, 32],
  ],
  registers: 128,
  held: 128,
  SPAN: 2,
  PASSES: 1,
  FEW: 0,
  LATE: 0,
} as const satisfies Build;

const INTEL = { subgroup: "smallest", registers: 16, SPAN: 1, PASSES: 2, FEW: 1 } as const;

/** What compiled best (npm run bench:gpus). */
const BUILDS = {
  arc: {
    ...INTEL,
    shapes: [
      [8, 8, 64],
      [4, 8, 64],
      [3, 8, 64],
      [2, 8, 64],
    ],
    held: 40,
    LATE: 1,
  },
  xe2: {
    ...INTEL,
    shapes: [
      [8, 4, 64],
      [4, 4, 64],
      [2, 4, 64],
    ],
    held: 40,
    LATE: 0,
  },
  amd: {
    ...WIDE,
    subgroup: "largest",
    shapes: [
      [4, 2, 32],
      [2, 4, 64],
      [2, 2, 32],
    ],
  },
  wide: WIDE,
  narrow: {
    ...WIDE,
    shapes: [
      [4, 4, 32],
      [2, 4, 32],
    ],
    registers: 256,
    held: 0,
    SPAN: 1,
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

function workgroupBytes(
  rows: number,
  width: number,
  COLUMNS: number,
  { owns, results }: Operation,
  { FEW, LATE }: Build,
): number {
  const row = 2 * (COLUMNS + PAD);
  const chunks = width / COLUMNS;
  const operands = (owns * rows + COLUMNS) * chunks * row;
  // With FEW, rows of the second kind of scores have another stride; with LATE, those of the first kind are not padded.
  const pads = (1 - LATE) * owns + (owns - 1) * FEW;
  const scores = 4 * rows * (owns * COLUMNS + pads * SCORE_PAD);
  // At most: with LATE, weights have a longer stride where own operands are held.
  const weights = results * rows * (row + 2 * PAD * LATE);
  const statistics = (results - 1) * 8 * COLUMNS;
  return operands + scores + weights + 4 * rows + statistics + 32;
}

/** The defines of a tile, or nothing where the adapter has no matrices of which one fits. */
export function matrixAttention(
  call: Call,
  traits: AdapterTraits,
  operation: Operation,
): Defines | undefined {
  const build = buildFor(traits);
  const PASSES = operation.results === 1 ? 1 : build.PASSES;
  const lanes = matrixSubgroup(build.subgroup, traits);
  if (lanes === 0) return undefined;
  const widthOf = (COLUMNS: number): number => Math.ceil(option(call, "HEAD_DIM") / COLUMNS) * COLUMNS;
  const results = (m: MatrixShape, SUBGROUPS_N: number, width: number): number =>
    (operation.results / PASSES) * ((m.M * width) / SUBGROUPS_N / lanes);
  const fits = (m: MatrixShape, [SUBGROUPS_M, SUBGROUPS_N, COLUMNS]: Shape): boolean => {
    const width = widthOf(COLUMNS);
    const rows = SUBGROUPS_M * m.M;
    const all = SUBGROUPS_M * SUBGROUPS_N * lanes;
    const parts = all / rows;
    return (
      COLUMNS % m.K === 0 &&
      all % COLUMNS === 0 &&
      all <= traits.maxWorkgroupInvocations &&
      Number.isInteger(COLUMNS / (SUBGROUPS_N * m.N)) &&
      Number.isInteger(Math.log2(parts)) &&
      parts >= 1 &&
      parts <= Math.min(lanes, COLUMNS) &&
      results(m, SUBGROUPS_N, width) <= build.registers &&
      workgroupBytes(rows, width, COLUMNS, operation, build) <= traits.maxWorkgroupBytes
    );
  };
  const matrices = traits.matrixShapes
    .filter((m) => m.componentType === "f16" && m.resultComponentType === "f32" && (m.M * m.N) % lanes === 0)
    .toSorted((a, b) => b.M * b.N * b.K - a.M * a.N * a.K);
  const [best] = build.shapes.flatMap((shape) => {
    const matrix = matrices.find((m) => fits(m, shape));
    return matrix ? [{ matrix, shape }] : [];
  });
  if (!best) return undefined;
  const { matrix, shape } = best;
  const [SUBGROUPS_M, SUBGROUPS_N, COLUMNS] = shape;
  const width = widthOf(COLUMNS);
  const chunks = width / COLUMNS;
  const held = (operation.owns * matrix.M * width) / lanes / 2; // two f16 to a register
  const HELD = Number(held + results(matrix, SUBGROUPS_N, width) <= build.held);
  const isFixed = traits.subgroupMinSize === traits.subgroupMaxSize;
  return {
    LANES_PER_SUBGROUP: lanes,
    SUBGROUP_SIZE: traits.features.has("subgroup-size-control") && !isFixed ? lanes : 0,
    MATRIX_M: matrix.M,
    MATRIX_N: matrix.N,
    MATRIX_K: matrix.K,
    SUBGROUPS_M,
    SUBGROUPS_N,
    TM: 1,
    TN: COLUMNS / (SUBGROUPS_N * matrix.N),
    TO: width / (SUBGROUPS_N * matrix.N),
    COLUMNS,
    PASSES,
    HELD,
    SPAN: HELD ? chunks : chunks % build.SPAN === 0 ? build.SPAN : 1,
    FEW: build.FEW,
    LATE: build.LATE,
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
