// What benches make of their measurements.

export { median } from "../../dist/train/median.js";

export const geometricMean = (values) =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
