/** Products through subgroup matrices ("tensor cores"): f16 inputs and f32 sums, where the call allows f16 and the adapter has them. */
import type { AdapterTraits, MatrixShape } from "../gpu/traits.js";
import { option, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { hasVec4Low, hasVec4Rows, hasVec4Weights, isAligned } from "./product_layout.js";

const FEATURES = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"];
const LANES = 128;
/** Terms of a tile, and padding of its rows in f16: rows stay multiples of 16 bytes and start at different banks. */
const TILE = { DEPTH: 32, PAD: 8 };
/** Fewer tokens are the vector variant's. */
const FEWEST_TOKENS = 5;

interface Shape {
  readonly LANES_PER_SUBGROUP: number;
  /** 0: the adapter has one size only. */
  readonly SUBGROUP_SIZE: number;
  readonly MATRIX_M: number;
  readonly MATRIX_N: number;
  readonly MATRIX_K: number;
  readonly TM: number;
  readonly TN: number;
  readonly SUBGROUPS_M: number;
  readonly SUBGROUPS_N: number;
}

const volume = (s: MatrixShape): number => s.M * s.N * s.K;

/** The largest f16 matrices with f32 results whose columns are whole parts of a subgroup. */
function bestMatrix(traits: AdapterTraits): MatrixShape | undefined {
  const lanes = traits.subgroupMinSize;
  return traits.matrixShapes
    .filter(
      (s) =>
        s.componentType === "f16" &&
        s.resultComponentType === "f32" &&
        TILE.DEPTH % s.K === 0 &&
        lanes % s.N === 0 &&
        s.M % (lanes / s.N) === 0,
    )
    .toSorted((a, b) => volume(b) - volume(a))[0];
}

/** The tile of a call, or nothing where the adapter has no fitting matrices. */
export function matrixShape(call: Call, traits: AdapterTraits): Shape | undefined {
  const lanes = traits.subgroupMinSize;
  const isFixed = traits.subgroupMinSize === traits.subgroupMaxSize;
  const matrix = bestMatrix(traits);
  if (!matrix || LANES % lanes !== 0 || !(isFixed || traits.features.has("subgroup-size-control")))
    return undefined;
  const subgroups = LANES / lanes;
  const SUBGROUPS_N = 2 ** Math.floor(Math.log2(subgroups) / 2);
  const SUBGROUPS_M = subgroups / SUBGROUPS_N;
  // A lane of a small subgroup has fewer registers for its share of a matrix (Intel), one of a large one has plenty.
  const TN = lanes >= 32 ? 4 : 2;
  const rows = SUBGROUPS_M * matrix.M;
  const TM = [1, 2, 4].find((tm) => rows * tm >= size(call, "N")) ?? 4;
  return {
    LANES_PER_SUBGROUP: lanes,
    SUBGROUP_SIZE: isFixed ? 0 : lanes,
    MATRIX_M: matrix.M,
    MATRIX_N: matrix.N,
    MATRIX_K: matrix.K,
    TM,
    TN,
    SUBGROUPS_M,
    SUBGROUPS_N,
  };
}

function accepts(call: Call, traits: AdapterTraits): boolean {
  if (!option(call, "HALF") || size(call, "N") < FEWEST_TOKENS) return false;
  return FEATURES.every((f) => traits.features.has(f)) && matrixShape(call, traits) !== undefined;
}

const defines = (call: Call, traits: AdapterTraits): Defines => ({
  ...call.options,
  ...matrixShape(call, traits),
  ...TILE,
  X_VEC4: hasVec4Rows(call),
  W_VEC4: hasVec4Weights(call),
  B_VEC4: hasVec4Low(call),
  ALIGNED: isAligned(call),
});

export const matrixVariant: Variant = {
  name: "matrix",
  file: "product_matrix.wgsl",
  accepts,
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
