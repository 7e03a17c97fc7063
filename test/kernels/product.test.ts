import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openGpu, type Gpu } from "../../src/gpu/device.js";
import { Pipelines } from "../../src/gpu/pipelines.js";
import type { NumberArray } from "../../src/program/kernel.js";
import { compareWithTwin, expectClose, finiteDifference, randomF32, useGpu } from "./harness.js";
import { backward, CASES, describeCase, forward, LARGE, type Case } from "./product_calls.js";

const context = useGpu();

/** Sums of up to 1536 rounded products against f64: about sqrt(1536) * 2^-24 of the largest result; 1e-6 was seen. */
const TOLERANCE = 3e-6;

function accepted(c: (typeof CASES)[number], isForward: boolean, { traits }: Gpu): readonly string[] {
  const isSoftware =
    traits.isSoftware && traits.subgroupMinSize >= 4 && traits.subgroupMinSize === traits.subgroupMaxSize;
  return [
    ...(c.software && isSoftware ? ["software"] : []),
    ...(isForward && c.N <= 4 ? ["vector"] : []),
    ...(isForward && c.N > 4 && c.N <= 32 && c.format !== "int8" ? ["slices"] : []),
    "tile",
    ...(c.N > 4 ? ["small_tile"] : []),
  ];
}

describe("product forward", () => {
  for (const c of CASES) {
    it(`equals its twin: ${describeCase(c)}`, async () => {
      const { call, data } = forward(c);
      const names = await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
      expect(names).toEqual(accepted(c, true, context.gpu));
    });
  }
});

describe("product backward", () => {
  for (const c of CASES) {
    it(`equals its twin: ${describeCase(c)}`, async () => {
      const { call, data } = backward(c);
      const names = await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
      expect(names).toEqual(accepted(c, false, context.gpu));
    });
  }
});

describe("products in large tiles", () => {
  for (const c of LARGE) {
    it(`equal their twins on a software adapter: ${describeCase(c)}`, async ({ skip }) => {
      skip(!context.gpu.traits.isSoftware);
      for (const { call, data } of [forward(c), backward(c)])
        await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data, only: ["software"] });
    });
  }
});

describe("product twins", () => {
  it.each(["nf4 nested", "int8"] as const)("backward is the derivative of forward, %s", (format) => {
    const c: Case = { format, N: 2, in: 33, out: 9, rank: 3 };
    const f = forward(c);
    const b = backward(c);
    const e = Float64Array.from(randomF32(c.N * c.out, 9));
    const x = Float64Array.from(randomF32(c.N * c.in, 10));
    const a = Float64Array.from(randomF32(3 * c.in, 11));
    const low = Float64Array.from(randomF32(c.out * 3, 12));
    const weight = { codes: f.data["codes"] as NumberArray, absmax: f.data["absmax"] as NumberArray };
    // The low-rank branch as a chain: p = x aT forward, q = e low backward.
    const times = (rows: Float64Array, length: number, at: (k: number, r: number) => number): Float64Array =>
      Float64Array.from({ length: c.N * 3 }, (_, i) => {
        let sum = 0;
        for (let k = 0; k < length; k++) sum += rows[Math.floor(i / 3) * length + k]! * at(k, i % 3);
        return sum;
      });
    const loss = (values: Float64Array): number => {
      const y = new Float64Array(c.N * c.out);
      const p = times(values, c.in, (k, r) => a[r * c.in + k]!);
      f.call.kernel.twin({ ...weight, x: values, y, p, b: low }, f.call);
      return y.reduce((sum, v, i) => sum + v * e[i]!, 0);
    };
    const dx = new Float64Array(c.N * c.in);
    b.call.kernel.twin(
      { ...weight, x: e, y: dx, p: times(e, c.out, (k, r) => low[k * 3 + r]!), b: a },
      b.call,
    );
    // The function is linear: the differences are exact but for cancellation, about 2^-52 / 1e-5.
    expectClose(dx, finiteDifference(x, loss), 1e-8, "dx");
  });
});

describe("without a driver", () => {
  let nothing: Gpu;
  beforeAll(async () => {
    nothing = await openGpu({ backend: "null" });
  });
  afterAll(async () => {
    await nothing.destroy();
  });

  for (const c of CASES) {
    it(`compiles: ${describeCase(c)}`, async () => {
      const pipelines = new Pipelines(nothing);
      for (const { call } of [forward(c), backward(c)]) {
        for (const subgroup of [4, 8, 16]) {
          const traits = {
            ...nothing.traits,
            isSoftware: true,
            subgroupMinSize: subgroup,
            subgroupMaxSize: subgroup,
          };
          for (const v of call.kernel.variants.filter((each) => each.accepts(call, traits)))
            await pipelines.get(v.file, v.defines(call, traits));
        }
      }
      nothing.check();
    });
  }
});
