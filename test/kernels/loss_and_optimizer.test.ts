import { describe, expect, it } from "vitest";
import { callAdamw, callClip, callGradientNorm, NORM_PARTIALS } from "../../src/kernels/adamw.js";
import {
  callCrossEntropyBackward,
  callCrossEntropyForward,
  callSumLoss,
} from "../../src/kernels/cross_entropy.js";
import {
  compareWithTwin,
  runTwin,
  runVariants,
  expectClose,
  finiteDifference,
  given,
  randomF32,
  useGpu,
} from "./harness.js";

const context = useGpu();

const TOLERANCE = 3e-6;

describe("cross_entropy", () => {
  for (const [N, V] of [
    [1, 4],
    [7, 65],
    [3, 2048],
    [33, 1001],
  ] as const) {
    it(`equals its twins: N ${N}, V ${V}`, async () => {
      const [tokens, row] = [N + 5, 3];
      const labels = Int32Array.from({ length: tokens }, (_, t) => (t % 3 === 1 ? -100 : (t * 31) % V));
      const t = {
        logits: given("logits", [N, V]),
        labels: given("labels", [tokens], "i32"),
        token_loss: given("loss", [tokens]),
      };
      const data = {
        logits: randomF32(N * V, 1, 20),
        labels,
        token_loss: randomF32(tokens, 2),
        step: Float32Array.from({ length: 16 }, () => 0.25),
      };
      await compareWithTwin(context.gpu, callCrossEntropyForward("test", t, { N, V, row }), {
        tolerance: TOLERANCE,
        data,
      });
      await compareWithTwin(
        context.gpu,
        callCrossEntropyBackward("test", { ...t, step: given("step", [16]) }, { N, V, row }),
        { tolerance: TOLERANCE, data },
      );
    });
  }

  it.each([151936, 70001])("adds as many equal terms as a vocabulary of %i has", async (V) => {
    const t = {
      logits: given("logits", [1, V]),
      labels: given("labels", [1], "i32"),
      token_loss: given("loss", [1]),
    };
    const data = {
      logits: new Float32Array(V).fill(3.3, 7, 8),
      labels: Int32Array.of(5),
      step: new Float32Array(16).fill(0.25),
    };
    const sizes = { N: 1, V, row: 0 };
    await compareWithTwin(context.gpu, callCrossEntropyForward("test", t, sizes), { tolerance: 1e-6, data });
    // What the label does not have: softmax alone, far smaller than the label's gradient.
    const call = callCrossEntropyBackward("test", { ...t, step: given("step", [16]) }, sizes);
    const want = runTwin(call, data)["logits"]!.subarray(8);
    for (const [name, got] of await runVariants(context.gpu, call, data))
      expectClose(got["logits"]!.subarray(8), want, TOLERANCE, name);
  });

  it("backward is the derivative of forward", () => {
    const [N, V] = [3, 5];
    const labels = Int32Array.of(4, -100, 0);
    const logits = Float64Array.from(randomF32(N * V, 1, 2));
    const t = {
      logits: given("logits", [N, V]),
      labels: given("labels", [N], "i32"),
      token_loss: given("loss", [N]),
    };
    const forward = callCrossEntropyForward("test", t, { N, V, row: 0 });
    const backward = callCrossEntropyBackward("test", { ...t, step: given("step", [16]) }, { N, V, row: 0 });
    const loss = (values: Float64Array): number => {
      const out = new Float64Array(N);
      forward.kernel.twin({ logits: values, labels, token_loss: out }, forward);
      return 0.5 * out.reduce((a, b) => a + b, 0);
    };
    const want = finiteDifference(logits, loss);
    backward.kernel.twin(
      { logits, labels, token_loss: new Float64Array(N), step: Float64Array.of(0.5) },
      backward,
    );
    expectClose(logits, want, 1e-7, "d_logits");
  });

  it("sums token losses onto what is there", async () => {
    const call = callSumLoss(
      "test",
      { token_loss: given("loss", [700]), totals: given("totals", [16]) },
      { N: 613 },
    );
    await compareWithTwin(context.gpu, call, {
      tolerance: 1e-6,
      data: { token_loss: randomF32(700, 1).map(Math.abs), totals: randomF32(16, 2) },
    });
  });
});

describe("optimizer", () => {
  it("norm and clip equal their twins at odd sizes", async () => {
    for (const count of [1, 63, 4097, 70001]) {
      const call = callGradientNorm(
        "test",
        { gradient: given("g", [count]), partials: given("partials", [3 * NORM_PARTIALS]) },
        { count, slot: 1 },
      );
      await compareWithTwin(context.gpu, call, {
        tolerance: TOLERANCE,
        data: { gradient: randomF32(count, 1), partials: randomF32(3 * NORM_PARTIALS, 2) },
      });
    }
    for (const largest of [0.5, 1e6]) {
      const count = 5 * NORM_PARTIALS;
      const call = callClip(
        "test",
        { partials: given("p", [count]), step: given("step", [16]), totals: given("totals", [16]) },
        { count },
      );
      const step = Float32Array.from({ length: 16 }, () => largest);
      await compareWithTwin(context.gpu, call, {
        tolerance: TOLERANCE,
        data: { partials: randomF32(count, 1).map(Math.abs), step, totals: randomF32(16, 2) },
      });
    }
  });

  const scalars = (t: number): Float32Array =>
    Float32Array.of(
      0.1,
      1e-2,
      1 - 0.9 ** t,
      1 - 0.999 ** t,
      0.1,
      1e-8,
      1,
      0.9,
      0.999,
      1 - 0.9,
      1 - 0.999,
      0,
      0,
      0,
      0,
      0,
    );
  const adamwCall = (count: number, decayEnd: number) =>
    callAdamw(
      "test",
      {
        parameter: given("p", [count]),
        gradient: given("g", [count]),
        first_moment: given("m", [count]),
        second_moment: given("v", [count]),
        step: given("step", [16]),
        totals: given("totals", [16]),
      },
      { count, decayEnd },
    );

  for (const clip of [0.5, 0]) {
    it(`adamw equals its twin with clip factor ${clip}`, async () => {
      const count = 1000;
      const totals = new Float32Array(16).fill(clip);
      const data = {
        parameter: randomF32(count, 1),
        gradient: randomF32(count, 2),
        first_moment: randomF32(count, 3, 0.1),
        second_moment: randomF32(count, 4, 0.1).map((v) => v * v),
        step: scalars(3),
        totals,
      };
      await compareWithTwin(context.gpu, adamwCall(count, 700), { tolerance: TOLERANCE, data });
    });
  }

  it("a norm or a loss that is not finite gives clip factor 0", async () => {
    const call = callClip(
      "test",
      { partials: given("p", [2]), step: given("step", [16]), totals: given("totals", [16]) },
      { count: 2 },
    );
    for (const [partial, loss] of [
      [NaN, 1],
      [Infinity, 1],
      [1, NaN],
      [1, -Infinity],
    ] as const) {
      const data = {
        partials: Float32Array.of(1, partial),
        step: scalars(1),
        totals: Float32Array.from({ length: 16 }, (_, i) => (i === 0 ? loss : 1)),
      };
      for (const got of [runTwin(call, data), ...(await runVariants(context.gpu, call, data)).values()])
        expect(got["totals"]![2], `norm^2 1 + ${partial}, loss ${loss}`).toBe(0);
    }
  });

  it("the first step is torch's: the learning rate against the gradient's sign, after decay", () => {
    const call = adamwCall(2, 1);
    const p = Float64Array.of(1, 1);
    call.kernel.twin(
      {
        parameter: p,
        gradient: Float64Array.of(3, -2),
        first_moment: new Float64Array(2),
        second_moment: new Float64Array(2),
        step: Float64Array.from(scalars(1)),
        totals: Float64Array.of(0, 0, 1),
      },
      call,
    );
    expect(p[0]).toBeCloseTo(1 - 1e-2 * 0.1 - 1e-2, 6);
    expect(p[1]).toBeCloseTo(1 + 1e-2, 6);
  });
});
