import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { Pipelines } from "../../src/gpu/pipelines.js";
import type { Call } from "../../src/program/kernel.js";
import { CACHED, CASES, describeCase, inputs, runTwins, uploaded } from "./attention_calls.js";
import { compareWithTwin, expectClose, finiteDifference, randomF32, useGpu } from "./harness.js";

const context = useGpu();

/** f32 dot products, exponentials of errors of some ulp, sums of up to 130 terms against f64; 1.5e-6 was seen (d_q, d_k), 5e-7 in o. */
const TOLERANCE = 4e-6;

describe("attention", () => {
  for (const c of CASES) {
    it(`equals its twins: ${describeCase(c)}`, async () => {
      const { data, calls } = inputs(c);
      const compare = (call: Call) =>
        compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data: uploaded(c, data) });
      await compare(calls[0]);
      await compareWithTwin(context.gpu, calls[1], { tolerance: TOLERANCE, data });
      // A delta that is not o d_o: with the true one a single key has no gradient to compare with.
      runTwins(calls.slice(0, 1), data);
      for (const [i, lse] of data["lse"]!.entries()) data["statistics"]![2 * i] = lse;
      await compare(calls[2]);
      await compare(calls[3]);
    });
  }
  for (const c of CACHED) {
    it(`equals its twin behind a cache: ${describeCase(c)}`, async () => {
      const { data, calls } = inputs(c);
      await compareWithTwin(context.gpu, calls[0], { tolerance: TOLERANCE, data: uploaded(c, data) });
      // Queries of a chunk in the middle of a stream, backward.
      runTwins(calls.slice(0, 1), data);
      for (const [i, lse] of data["lse"]!.entries()) data["statistics"]![2 * i] = lse;
      await compareWithTwin(context.gpu, calls[2], { tolerance: TOLERANCE, data: uploaded(c, data) });
    });
  }
  it("does not overflow where scores are far apart", async () => {
    const { data, calls } = inputs({ lengths: [40], heads: 1, kvHeads: 1, headDim: 64, window: 0 });
    // Scores of some hundreds: exponentials of differences only. An error of 2^-24 of a score of 500 can be 3e-5 of its exponential; 2e-7 was seen.
    await compareWithTwin(context.gpu, calls[0], {
      tolerance: 3e-5,
      data: { ...data, q: randomF32(40 * 64, 1, 60) },
    });
  });
});

describe("the twins of attention", () => {
  for (const window of [0, 3]) {
    it(`have the gradients of finite differences, window ${window}`, () => {
      const c = { lengths: [4, 1, 3], heads: 4, kvHeads: 2, headDim: 4, window };
      const { data, calls } = inputs(c);
      const memory = Object.fromEntries(
        Object.entries(data).map(([name, a]) => [name, name === "spans" ? a : Float64Array.from(a)]),
      );
      runTwins(calls, memory);
      for (const name of ["q", "k", "v"]) {
        const gradient = finiteDifference(Float64Array.from(data[name]!), (x) => {
          const again = {
            ...memory,
            [name]: x,
            o: new Float64Array(memory["o"]!.length),
            lse: new Float64Array(memory["lse"]!.length),
          };
          runTwins(calls.slice(0, 1), again);
          return again.o.reduce((sum, o, i) => sum + o * memory["d_o"]![i]!, 0);
        });
        // Steps of 1e-5 in f64: 1e-10 from the third derivative, 1e-11 from rounding.
        expectClose(memory[`d_${name}`]!, gradient, 1e-8, `d_${name}`);
      }
    });
  }
  it("gives a sequence of one token its own value", () => {
    const { data, calls } = inputs({ lengths: [2, 1], heads: 1, kvHeads: 1, headDim: 4, window: 0 });
    runTwins(calls.slice(0, 1), data);
    expect(data["o"]!.slice(8, 12)).toEqual(data["v"]!.slice(8, 12));
  });
});

describe("attention on the null backend", () => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await openGpu({ backend: "null" });
  });
  afterAll(async () => {
    await gpu.destroy();
  });
  for (const c of [...CASES, ...CACHED]) {
    it(`compiles: ${describeCase(c)}`, async () => {
      const pipelines = new Pipelines(gpu);
      for (const call of inputs(c).calls) {
        for (const variant of call.kernel.variants) {
          if (variant.accepts(call, gpu.traits))
            await pipelines.get(variant.file, variant.defines(call, gpu.traits));
        }
      }
      gpu.check();
    });
  }
});
