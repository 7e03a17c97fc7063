/** SwiGLU, forward and backward, and with DoRA's magnitudes. */
import { describe, expect, it } from "vitest";
import { callDoraBackward } from "../../src/kernels/dora.js";
import {
  callSwigluBackward,
  callSwigluBackwardMagnitudes,
  callSwigluForward,
  type OwnMagnitude,
} from "../../src/kernels/swiglu.js";
import {
  compareWithTwin,
  dot,
  expectClose,
  finiteDifference,
  given,
  randomF32,
  runTwin,
  useGpu,
} from "./harness.js";

const context = useGpu();

/** A handful of f32 operations against f64. */
const TOLERANCE = 2e-6;
/** Central differences with step 1e-5 of functions near 1: truncation 1e-10, cancellation 1e-11. */
const DIFFERENCE = 1e-7;

describe("swiglu", () => {
  for (const count of [1, 63, 1537]) {
    it(`equals its twins at ${count}`, async () => {
      const t = { gate: given("gate", [count]), up: given("up", [count]) };
      const data = { gate: randomF32(count, 1, 8), up: randomF32(count, 2), d: randomF32(count, 3) };
      await compareWithTwin(
        context.gpu,
        callSwigluForward("test", { ...t, y: given("y", [count]) }, { count }),
        { tolerance: TOLERANCE, data },
      );
      const back = callSwigluBackward("test", { ...t, d: given("d", [count]) }, { count });
      await compareWithTwin(context.gpu, back, { tolerance: TOLERANCE, data });
    });
  }

  for (const [N, width, biases] of [
    [1, 1, "none"],
    [7, 65, "gate"],
    [33, 300, "none"],
    [530, 40, "both"],
    [9, 20, "no gate"],
    [9, 20, "no up"],
  ] as const) {
    it(`has the magnitudes' gradients too: N ${N}, width ${width}, bias ${biases}`, async () => {
      const rows = [N, width];
      const [gateAt, upAt] = [64, 64 + width + 3];
      const elements = upAt + width + 5;
      const t = { gate: given("gate", rows), up: given("up", rows), d: given("d", rows) };
      const perRow = (of: "gate" | "up"): number => (biases === of || biases === "both" ? 2 : 1);
      const own = (of: "gate" | "up", at: number): OwnMagnitude | undefined =>
        biases === `no ${of}`
          ? undefined
          : {
              magnitude: given(`m_${of}`, [width]),
              scale_bias: given(`scale_bias_${of}`, [width, perRow(of)]),
              at,
            };
      const m = (seed: number): Float32Array => randomF32(width, seed).map((v) => 1 + Math.abs(v));
      const data = {
        gate: randomF32(N * width, 1, 8),
        up: randomF32(N * width, 2),
        d: randomF32(N * width, 3),
        m_gate: m(4),
        m_up: m(5),
        gradient: randomF32(elements, 6),
        scale_bias_gate: randomF32(perRow("gate") * width, 7),
        scale_bias_up: randomF32(perRow("up") * width, 8),
      };
      data.m_up[width - 1] = 0;
      const call = callSwigluBackwardMagnitudes(
        "test",
        { ...t, gradient: given("gradient", [elements]) },
        { gate: own("gate", gateAt), up: own("up", upAt) },
        { N, width },
      );
      await compareWithTwin(context.gpu, call, { tolerance: TOLERANCE, data });
      // The same as the element's pass, and the magnitudes' of what that makes.
      const back = runTwin(callSwigluBackward("test", t, { count: N * width }), data);
      const both = runTwin(call, data);
      for (const name of ["d", "gate"]) expectClose(both[name]!, back[name]!, 0, name);
      for (const [of, at, dy, y] of [
        ["gate", gateAt, back["gate"]!, data.gate],
        ["up", upAt, back["d"]!, data.up],
      ] as const) {
        const start = data.gradient.subarray(at, at + width);
        const scale_bias = data[`scale_bias_${of}`];
        const alone = callDoraBackward(
          "test",
          {
            dy: given("dy", rows),
            y: given("y", rows),
            scale_bias: given("sb", [width, perRow(of)]),
            magnitude: given("m", [width]),
            gradient: given("dm", [width]),
          },
          { N, out: width },
        );
        const inputs = { dy: Float32Array.from(dy), y, scale_bias, magnitude: data[`m_${of}`] };
        const want =
          biases === `no ${of}`
            ? start
            : runTwin(alone, { ...inputs, magnitude_gradient: start })["magnitude_gradient"]!;
        expectClose(both["gradient"]!.subarray(at, at + width), want, 1e-6, `dm of ${of}`);
      }
    });
  }

  it("refuses an arena that ends before the magnitudes", () => {
    const rows = given("rows", [2, 8]);
    const module = { magnitude: given("m", [8]), scale_bias: given("sb", [8, 1]) };
    const t = { gate: rows, up: rows, d: rows, gradient: given("gradient", [20]) };
    const modules = { gate: { ...module, at: 0 }, up: { ...module, at: 13 } };
    expect(() => callSwigluBackwardMagnitudes("test", t, modules, { N: 2, width: 8 })).toThrow(/before 21/);
  });

  it("takes huge gates", async () => {
    const gate = Float32Array.of(-1e30, -200, 200, 1e30);
    const call = callSwigluForward(
      "test",
      { gate: given("gate", [4]), up: given("up", [4]), y: given("y", [4]) },
      { count: 4 },
    );
    await compareWithTwin(context.gpu, call, {
      tolerance: TOLERANCE,
      data: { gate, up: Float32Array.of(1, 1, 1, 1) },
    });
  });

  it("backward is the derivative of forward", () => {
    const count = 7;
    const both = Float64Array.from(randomF32(2 * count, 1));
    const dy = Float64Array.from(randomF32(count, 2));
    const t = { gate: given("gate", [count]), up: given("up", [count]) };
    const forward = callSwigluForward("test", { ...t, y: given("y", [count]) }, { count });
    const backward = callSwigluBackward("test", { ...t, d: given("d", [count]) }, { count });
    const loss = (values: Float64Array): number => {
      const y = new Float64Array(count);
      forward.kernel.twin({ gate: values.subarray(0, count), up: values.subarray(count), y }, forward);
      return dot(y, dy);
    };
    // What was gate and dy becomes the gradient of gate and up.
    const gradient = Float64Array.of(...both.subarray(0, count), ...dy);
    const t64 = { gate: gradient.subarray(0, count), d: gradient.subarray(count) };
    backward.kernel.twin({ ...t64, up: both.subarray(count) }, backward);
    expectClose(gradient, finiteDifference(both, loss), DIFFERENCE, "gradients of gate and up");
  });
});
