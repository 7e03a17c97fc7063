import { describe, expect, it } from "vitest";
import { callCopyRows } from "../../src/kernels/copy_rows.js";
import type { Call, Program } from "../../src/program/kernel.js";
import { planMemory } from "../../src/program/planner.js";
import { tensor, tensorBytes, type Tensor } from "../../src/program/tensor.js";

/** A call that reads `x` and writes all of `y`, for lifetimes only. */
function step(x: Tensor, y: Tensor): Call {
  const call = callCopyRows("step", { x, y }, { N: 1, width: 1, row: 0 });
  return { ...call, kernel: { ...call.kernel, bindings: { x: "read", y: "write" } } };
}

const chain = (...tensors: readonly Tensor[]): Program => ({
  name: "chain",
  calls: tensors.slice(1).map((t, i) => step(tensors[i] as Tensor, t)),
});

describe("planMemory", () => {
  const input = tensor("input", [64], "f32", "weight");
  const [a, b, c] = ["a", "b", "c"].map((name, i) => tensor(name, [100 * (i + 1)]));

  it("lets tensors share a slot only when their lifetimes do not overlap", () => {
    const plan = planMemory([chain(input, a as Tensor, b as Tensor, c as Tensor)], 0);
    const places = plan.transientPlaces.get("chain");
    // a is dead when c is written, b is read by that very call: a and c share, b has its own.
    expect(places?.get("a")?.buffer).toBe(places?.get("c")?.buffer);
    expect(places?.get("b")?.buffer).not.toBe(places?.get("c")?.buffer);
    expect(plan.bytesByKind.get("workspace")).toBe(4 * (300 + 200));
  });

  it("adds up to the byte", () => {
    const plan = planMemory([chain(input, a as Tensor, b as Tensor)], 4096);
    expect(plan.totalBytes).toBe(plan.buffers.reduce((sum, buffer) => sum + buffer.bytes, 0));
    expect(plan.totalBytes).toBe(64 * 4 + 400 + 800 + 2 * 256 + 4096);
  });

  it("shares slots between programs", () => {
    const first = { ...chain(input, a as Tensor), name: "first" };
    const second = { ...chain(input, b as Tensor), name: "second" };
    expect(planMemory([first, second], 0).bytesByKind.get("workspace")).toBe(800);
  });

  it("knows the lifetimes of each program apart, whatever its tensors are called", () => {
    const program = (name: string): Program => ({
      ...chain(input, a as Tensor, b as Tensor, c as Tensor),
      name,
    });
    const one = planMemory([program("one")], 0).bytesByKind.get("workspace");
    expect(planMemory([program("one"), program("two")], 0).bytesByKind.get("workspace")).toBe(one);
  });

  it("puts arena members into one buffer at their offsets", () => {
    const arena = (offsetBytes: number) => ({ name: "arena", bytes: 1024, offsetBytes });
    const [p, q] = [
      tensor("p", [64], "f32", "adapter", arena(0)),
      tensor("q", [64], "f32", "adapter", arena(512)),
    ];
    const plan = planMemory([chain(p, q)], 0);
    expect(plan.places.get("q")).toEqual({
      buffer: plan.places.get("p")?.buffer,
      offsetBytes: 512,
      bytes: 256,
    });
    expect(plan.bytesByKind.get("adapter")).toBe(1024);
  });

  it("refuses a workspace tensor that nothing wrote, and two tensors of one name", () => {
    expect(() => planMemory([chain(a as Tensor, b as Tensor)], 0)).toThrow(
      /a is used before anything wrote it/,
    );
    expect(() => planMemory([chain(input, tensor("input", [65], "f32", "weight"))], 0)).toThrow(
      /two different tensors are called input/,
    );
  });

  it("packs 16-bit and 8-bit elements", () => {
    expect(tensorBytes(tensor("h", [3], "bf16"))).toBe(8);
    expect(tensorBytes(tensor("u", [5], "u8"))).toBe(8);
    expect(tensorBytes(tensor("none", [0]))).toBe(4);
  });
});
