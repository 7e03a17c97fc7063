/** What a step's products and dispatches would take alone: which calls count, and that the measuring leaves no trace. */
import { expect, it } from "vitest";
import { callConvertRows } from "../../src/kernels/convert_rows.js";
import { callProductForward } from "../../src/kernels/product.js";
import type { Call } from "../../src/program/kernel.js";
import { tensor } from "../../src/program/tensor.js";
import { measureOverheads, productClasses } from "../../src/train/efficiency.js";
import { median } from "../../src/train/median.js";
import { useGpu } from "../kernels/harness.js";

const context = useGpu();

/** A product over workspace that only a whole step would have written. */
function product(label: string, N: number): Call {
  const [K, M] = [64, 32];
  const weight = {
    format: "f32",
    out: M,
    in: K,
    values: tensor(`${label}.w`, [M, K], "f32", "weight"),
  } as const;
  const x = tensor(`${label}.x`, [N, K]);
  return callProductForward(label, { x, weight, y: tensor(`${label}.y`, [N, M]) }, { N });
}
const copy = callConvertRows(
  "copy",
  { x: tensor("a", [4, 64]), y: tensor("b", [4, 64]) },
  { N: 4, width: 64 },
);
const programs = [
  { name: "micro-batch", calls: [product("first", 8), copy, product("second", 8)] },
  { name: "optimizer", calls: [product("third", 16), copy] },
];

it("counts products by class over all programs", () => {
  expect(productClasses(programs).map(({ call, count }) => [call.label, count])).toEqual([
    ["first", 2],
    ["third", 1],
  ]);
});

it("times them alone, with ledger and budget as before", async () => {
  const { gpu } = context;
  const before = gpu.ledger.bytes;
  gpu.ledger.budget = before;
  const { productMs, emptyDispatchMs } = await measureOverheads(gpu, programs, new Map());
  expect(productMs).toBeGreaterThan(0);
  expect(emptyDispatchMs).toBeGreaterThan(0);
  // A dispatch that copies 64 numbers takes microseconds; whole waits of the queue would be a hundred times that.
  expect(emptyDispatchMs).toBeLessThan(1);
  expect([gpu.ledger.bytes, gpu.ledger.budget]).toEqual([before, before]);
  gpu.ledger.budget = undefined;
  const twice = programs.flatMap((p) => [p, p]);
  const none = await measureOverheads(gpu, [], new Map());
  expect(none.productMs).toBe(0);
  expect(productClasses(twice).map(({ count }) => count)).toEqual([4, 2]);
});

it("takes the middle of measurements", () => {
  expect(median([9, 1, 4])).toBe(4);
  expect(median([9, 1, 4, 2])).toBe(3);
});
