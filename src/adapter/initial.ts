/** Start values of a new adapter, as PEFT's: A uniform in +-1/sqrt(in), B zero, magnitude = row norm of the base. */
import type { RandomSource } from "../program/random.js";
import type { ModuleAdapter } from "./layout.js";

export interface FactorValues {
  readonly a: Float32Array;
  readonly b: Float32Array;
  readonly magnitude?: Float32Array;
}

/**
 * @param rowSquares [out] squared row norms of the (dequantised) base weight; given where the module has a magnitude
 * @param random the run's seeded source; modules draw from it in their order
 */
export function initialValues(
  module: ModuleAdapter,
  rowSquares: Float32Array | undefined,
  random: RandomSource,
): FactorValues {
  const bound = 1 / Math.sqrt(module.in);
  const a = new Float32Array(module.rank * module.in);
  for (let i = 0; i < a.length; i++) a[i] = (2 * random.nextUniform() - 1) * bound;
  const b = new Float32Array(module.out * module.rank);
  return module.parameters.magnitude && rowSquares
    ? { a, b, magnitude: rowSquares.map(Math.sqrt) }
    : { a, b };
}
