import { describe, expect, it } from "vitest";
import { callCopyRows } from "../../src/kernels/copy_rows.js";
import type { Call } from "../../src/program/kernel.js";
import { tensor } from "../../src/program/tensor.js";
import { uniformBytes } from "../../src/program/uniforms.js";

const [x, y] = [tensor("x", [4]), tensor("y", [4])];
const call = (N: number): Call => ({
  ...callCopyRows("rows", { x, y }, { N: 1, width: 1, row: 0 }),
  sizes: { N, width: 1 },
});
const FIELDS = [
  { name: "N", type: "u32" },
  { name: "width", type: "f32" },
] as const;

describe("uniformBytes", () => {
  it("writes every place once, from the program's first", () => {
    const program = { name: "p", calls: [call(7), call(9), call(7)] };
    const { first, bytes } = uniformBytes(program, [3, 4, 3], [FIELDS, FIELDS, FIELDS]);
    expect(first).toBe(3);
    expect(bytes.byteLength).toBe(2 * 256);
    const view = new DataView(bytes);
    expect([view.getUint32(0, true), view.getFloat32(4, true), view.getUint32(256, true)]).toEqual([7, 1, 9]);
  });

  it("refuses calls that share a place and differ", () => {
    const program = { name: "p", calls: [call(7), call(9)] };
    expect(() => uniformBytes(program, [0, 0], [FIELDS, FIELDS])).toThrow(/N is not that of the calls/);
  });

  it("lets transfers have a place without sizes", () => {
    const program = { name: "p", calls: [call(7), call(9)] };
    expect(new DataView(uniformBytes(program, [0, 0], [[], FIELDS]).bytes).getUint32(0, true)).toBe(9);
  });

  it("names a size that a call does not have", () => {
    const program = { name: "p", calls: [call(7)] };
    expect(() => uniformBytes(program, [0], [[{ name: "depth", type: "u32" }]])).toThrow(
      /rows\) has no size depth/,
    );
  });
});
