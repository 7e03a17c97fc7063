/** Products forward of one to four tokens (generation) for any GPU: lanes along K, no features needed. */
import { grid1d, size, type Call, type Defines, type Variant } from "../program/kernel.js";
import { hasVec4Rows, hasVec4Weights, isAligned, MOST_VECTOR_TOKENS } from "./product_layout.js";

const LANES = 64;

/** Defines of a call at its capacity. A short row is shared by fewer lanes, so that each has a few steps. */
function defines(call: Call): Defines {
  return {
    ...call.options,
    LANES,
    LANES_K: size(call, "K") < 1024 ? LANES / 2 : LANES,
    ROWS: size(call, "N"),
    X_VEC4: hasVec4Rows(call),
    W_VEC4: hasVec4Weights(call),
    ALIGNED: isAligned(call),
  };
}

export const vectorVariant: Variant = {
  name: "vector",
  file: "product_vector.wgsl",
  accepts: (call) => {
    const N = size(call, "N");
    return N >= 1 && N <= MOST_VECTOR_TOKENS;
  },
  defines,
  grid: (call, d) => {
    const columns = (4 * LANES) / Number(d["LANES_K"]);
    return grid1d(size(call, "N") === 0 ? 0 : Math.ceil(size(call, "M") / columns));
  },
};
