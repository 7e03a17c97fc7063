/** What a program with its sizes comes to. */
import { describe, expect, it } from "vitest";
import type { CompiledKernel } from "../../src/gpu/pipelines.js";
import type { Call, Kernel } from "../../src/program/kernel.js";
import { UNIFORM_STRIDE } from "../../src/program/planner.js";
import { recordingOf, Step, type Bound } from "../../src/program/recording.js";

const kernel: Kernel = {
  name: "test",
  bindings: {},
  variants: [
    {
      name: "only",
      file: "none.wgsl",
      accepts: () => true,
      defines: () => ({ LANES: 4 }),
      grid: (call, d) => [Math.ceil((call.sizes["N"] ?? 0) / Number(d["LANES"])), 2, 1],
    },
  ],
  twin: () => undefined,
  cost: (call) => ({ flops: 3 * (call.sizes["N"] ?? 0), bytes: 1 }),
};
const transfer: Kernel = { ...kernel, name: "upload", transfer: "upload", variants: [] };

const call = (N: number, more: Partial<Call> = {}): Call => ({
  kernel,
  label: `call of ${N}`,
  tensors: {},
  sizes: { N },
  options: {},
  ...more,
});
const [variant] = kernel.variants;
const bound: Bound | undefined = variant && {
  variant,
  defines: { LANES: 4 },
  kernel: { interface: { bindings: [], sizes: [{ name: "N", type: "u32" }] } } as unknown as CompiledKernel,
  group: {} as GPUBindGroup,
};

describe("a recording", () => {
  const calls = [call(9), call(0), call(8, { onlyAfterUpdate: true }), call(4, { kernel: transfer })];
  const recording = recordingOf({ name: "p", calls }, [bound, bound, bound, undefined], [5, 6, 7, 7]);

  it("says what to do with each call", () => {
    expect([...recording.steps]).toEqual([Step.dispatch, Step.skip, Step.dispatchAfterUpdate, Step.transfer]);
  });

  it("leaves out transfers, too, that only an update asks for", () => {
    const once = call(4, { kernel: transfer, onlyAfterUpdate: true });
    const { steps } = recordingOf({ name: "p", calls: [once] }, [undefined], [0]);
    expect([...steps]).toEqual([Step.transferAfterUpdate]);
  });

  it("has grids and work", () => {
    expect([...recording.grids]).toEqual([3, 2, 1, 0, 2, 1, 2, 2, 1, 0, 0, 0]);
    expect([...recording.flops]).toEqual([27, 0, 24, 0]);
  });

  it("has the uniforms from the program's first place on", () => {
    const { offsetBytes, bytes } = recording.uniforms;
    expect(offsetBytes).toBe(5 * UNIFORM_STRIDE);
    const words = new Uint32Array(bytes);
    expect([0, 1, 2].map((i) => words[(i * UNIFORM_STRIDE) / 4])).toEqual([9, 0, 8]);
  });

  it("refuses a program of another structure", () => {
    expect(() => recordingOf({ name: "p", calls }, [bound], [0])).toThrow(/p has another structure/);
  });
});
