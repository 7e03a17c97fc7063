/**
 * Products for software adapters (lavapipe, SwiftShader): tokens' tile in workgroup memory read at shared addresses,
 * output columns on lanes.
 */
import type { AdapterTraits } from "../gpu/traits.js";
import { option, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { hasVec4Low, hasVec4Rows, hasVec4Weights, isAligned } from "./product_layout.js";
import {
  blocksOf,
  DEPTH,
  hasNeighbours,
  isBackward,
  loadsOwn,
  softwareShape,
} from "./product_software_shape.js";

function accepts(call: Call, traits: AdapterTraits): boolean {
  const S = traits.subgroupMaxSize;
  if (!traits.isSoftware || S !== traits.subgroupMinSize || ![4, 8, 16].includes(S)) return false;
  return option(call, "NF4") ? isAligned(call) && option(call, "BLOCK") % DEPTH === 0 : hasVec4Weights(call);
}

function defines(call: Call, traits: AdapterTraits): Defines {
  const shape = softwareShape(call, traits);
  const S = traits.subgroupMaxSize;
  const own = loadsOwn(traits);
  // Where neighbours lie in a row of W, lanes that load their own load single values.
  const loadsSingles = own && isBackward(call);
  const words = hasNeighbours(call) ? (S * shape.COLS) / 8 : 1;
  return {
    ...call.options,
    ...shape,
    S,
    OWN: own,
    CODES_VEC4: words >= 4,
    CODES_VEC2: words === 2,
    KT: DEPTH,
    BLOCKS: hasNeighbours(call) ? blocksOf(call, shape) : 0,
    X_VEC4: hasVec4Rows(call),
    W_VEC4: !loadsSingles,
    B_VEC4: !loadsSingles && hasVec4Low(call),
  };
}

export const softwareVariant: Variant = {
  name: "software",
  file: "product_software.wgsl",
  accepts,
  defines,
  grid: (call, d) => [
    Math.ceil(size(call, "M") / (Number(d["LANES"]) * Number(d["COLS"]))),
    Math.ceil(size(call, "N") / Number(d["ROWS"])),
    1,
  ],
};
