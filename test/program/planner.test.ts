import { describe, expect, it } from "vitest";
import { callCopyRows } from "../../src/kernels/copy_rows.js";
import type { Call, Program } from "../../src/program/kernel.js";
import { placeOf, planMemory } from "../../src/program/planner.js";
import { rowsOf, tensor, tensorBytes, type Tensor } from "../../src/program/tensor.js";
import { callDownload, DOWNLOAD_PIECE_BYTES } from "../../src/program/transfer.js";

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

  it("gives uniforms to kinds of calls: by kernel, sizes, chunk and program, whatever the options", () => {
    const call = { ...step(input, a as Tensor), chunk: "0 to 256" };
    const calls = [
      call,
      { ...call, label: "the same elsewhere" },
      { ...call, sizes: { ...call.sizes, N: 2 } },
      { ...call, chunk: "256 to 512" },
      { ...call, options: { ...call.options, OTHER: true } },
      call,
    ];
    const plan = planMemory(
      [
        { name: "one", calls },
        { name: "two", calls: [call] },
      ],
      0,
    );
    expect(plan.uniforms.get("one")).toEqual([0, 0, 1, 2, 0, 0]);
    expect(plan.uniforms.get("two")).toEqual([3]);
    expect(plan.bytesByKind.get("uniform")).toBe(4 * 256);
  });

  it("shares uniforms of calls outside chunks only where their sizes never change", () => {
    const call = step(input, a as Tensor);
    const constant = { ...call, onlyAfterUpdate: true };
    const plan = planMemory([{ name: "p", calls: [call, call, constant, constant] }], 0);
    expect(plan.uniforms.get("p")).toEqual([0, 1, 2, 2]);
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
    const plan = planMemory([{ name: "chain", calls: [step(p, a as Tensor), step(q, b as Tensor)] }], 0);
    expect(plan.places.get("q")).toEqual({
      buffer: plan.places.get("p")?.buffer,
      offsetBytes: 512,
      bytes: 256,
    });
    expect(plan.bytesByKind.get("adapter")).toBe(1024);
  });

  it("places a view inside its base, and counts the base once", () => {
    const whole = tensor("whole", [256, 4]);
    const rows = rowsOf(whole, 128, 64);
    const plan = planMemory([chain(input, rows, c as Tensor)], 0);
    expect(placeOf(plan, rows, "chain")).toEqual({
      ...placeOf(plan, whole, "chain"),
      offsetBytes: 2048,
      bytes: 1024,
    });
    expect(plan.bytesByKind.get("workspace")).toBe(256 * 16 + 1200);
    expect(() => rowsOf(whole, 8, 4)).toThrow(/has no 4 rows that start at row 8/);
    expect(() => rowsOf(whole, 240, 32)).toThrow(/has no 32 rows/);
  });

  it("refuses a call that reads and writes one buffer", () => {
    const whole = tensor("whole", [256, 4]);
    expect(() =>
      planMemory(
        [chain(input, whole), { ...chain(rowsOf(whole, 0, 64), rowsOf(whole, 64, 64)), name: "b" }],
        0,
      ),
    ).toThrow(/whole is bound as read and as written/);
  });

  it("plans two staging buffers for programs that bring tensors to the host", () => {
    const program: Program = {
      name: "p",
      calls: [step(input, a as Tensor), callDownload("out", a as Tensor, "a")],
    };
    expect(planMemory([program], 0).bytesByKind.get("staging")).toBe(2 * 400);
    const large = tensor("large", [DOWNLOAD_PIECE_BYTES]);
    const more: Program = { name: "q", calls: [step(input, large), callDownload("out", large, "large")] };
    expect(planMemory([program, more], 0).bytesByKind.get("staging")).toBe(2 * DOWNLOAD_PIECE_BYTES);
  });

  it("refuses a workspace tensor that nothing wrote, and two tensors of one name", () => {
    expect(() => planMemory([chain(a as Tensor, b as Tensor)], 0)).toThrow(
      /a is used before anything wrote it/,
    );
    expect(() =>
      planMemory(
        [
          chain(tensor("input", [65], "f32", "weight"), a as Tensor),
          { ...chain(input, a as Tensor), name: "other" },
        ],
        0,
      ),
    ).toThrow(/two different tensors are called input/);
  });

  it("packs 16-bit and 8-bit elements", () => {
    expect(tensorBytes(tensor("h", [3], "bf16"))).toBe(8);
    expect(tensorBytes(tensor("u", [5], "u8"))).toBe(8);
    expect(tensorBytes(tensor("none", [0]))).toBe(4);
  });
});
