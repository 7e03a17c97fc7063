/** AdamW with 8-bit moments: GPU against twin, and both against steps of bitsandbytes (test/fixtures/make/make_adamw8bit.py). */
import { describe, expect, it } from "vitest";
import { MOMENT_MAP_VALUES } from "../../src/adapter/moments.js";
import { callAdamw8bit, MOMENT_BLOCK } from "../../src/kernels/adamw8bit.js";
import type { Call } from "../../src/program/kernel.js";
import { DYNAMIC_MAP, UNSIGNED_DYNAMIC_MAP } from "../../src/quant/dynamic.js";
import { stepScalars } from "../../src/train/optimizer.js";
import { FIXTURES, readJson } from "../fixture_files.js";
import { goldenTensors } from "../quant/nf4_fixture.js";
import {
  expectClose,
  given,
  randomF32,
  runTwin,
  runVariants,
  useGpu,
  type Comparison,
  type Written,
} from "./harness.js";

const context = useGpu();

/** f32 arithmetic, and divisions of up to 2.5 units in the last place. */
const TOLERANCE = 3e-6;
/** How near a midpoint a value must be for its code to depend on rounding; cancelling sums have larger errors. */
const NEAR = 1e-5;

function adamwCall(blocks: number): Call {
  const count = blocks * MOMENT_BLOCK;
  return callAdamw8bit(
    "test",
    {
      parameter: given("p", [count]),
      gradient: given("g", [count]),
      codes: given("codes", [2, count], "u8"),
      absmax: given("absmax", [2, blocks]),
      maps: given("maps", [2, 256]),
      step: given("step", [16]),
      totals: given("totals", [16]),
    },
    { count },
  );
}

const settings = readJson(FIXTURES, "adamw8bit", "settings.json") as Readonly<
  Record<"learning_rate" | "weight_decay" | "clip", number>
>;
const scalars = (step: number): Float32Array =>
  stepScalars({
    step,
    scored: 10,
    learningRate: settings.learning_rate,
    weightDecay: settings.weight_decay,
    maxGradNorm: 1,
  });
const clipped = (factor: number): Float32Array => new Float32Array(16).fill(factor, 2, 3);
const mapOf = (second: boolean): Float32Array => (second ? UNSIGNED_DYNAMIC_MAP : DYNAMIC_MAP);

/** Parameters, maxima and gradients to the tolerance; a code may be its neighbour where the value is a midpoint to within rounding. */
function expectWritten(got: Written, want: Written, data: Comparison["data"], what: string): void {
  for (const name of ["parameter", "absmax", "gradient"])
    expectClose(got[name]!, want[name]!, TOLERANCE, `${what} ${name}`);
  const count = want["parameter"]!.length;
  let neighbours = 0;
  for (const [i, code] of want["codes"]!.entries()) {
    const mine = got["codes"]![i]!;
    if (mine === code) continue;
    neighbours++;
    const map = mapOf(i >= count);
    const [value, middle] = [scaledMoment(data, i, count), (map[mine]! + map[code]!) / 2];
    expect(Math.abs(mine - code), `${what}: code ${i} is ${mine}, not ${code}`).toBe(1);
    expect(Math.abs(value - middle), `${what}: code ${i} is ${mine}, not ${code}`).toBeLessThan(
      NEAR * Math.abs(middle),
    );
  }
  // At the tolerance above, one in several thousand is expected.
  expect(neighbours, `${what}: codes that differ`).toBeLessThanOrEqual(2 + count / 500);
}

/** The moment of code i before it is coded, over its block's maximum, in f64. */
function scaledMoment(data: Comparison["data"], i: number, count: number): number {
  const [codes, absmax] = [data["codes"] as Uint8Array, data["absmax"] as Float32Array];
  const [g, step] = [data["gradient"] as Float32Array, data["step"] as Float32Array];
  const clip = (data["totals"] as Float32Array)[2]!;
  const second = i >= count;
  const moment = (j: number): number => {
    const before = mapOf(second)[codes[j]!]! * absmax[Math.floor(j / MOMENT_BLOCK)]!;
    const gradient = g[j % count]! * clip;
    return second ? step[8]! * before + step[10]! * gradient ** 2 : step[7]! * before + step[9]! * gradient;
  };
  const start = i - (i % MOMENT_BLOCK);
  let top = 0;
  for (let j = start; j < start + MOMENT_BLOCK; j++) top = Math.max(top, Math.abs(moment(j)));
  return moment(i) / top;
}

/** Everything but the scalars is random. */
function randomState(blocks: number) {
  const count = blocks * MOMENT_BLOCK;
  const noise = randomF32(2 * count, 5);
  return {
    parameter: randomF32(count, 1),
    gradient: randomF32(count, 2, 0.05),
    codes: Uint8Array.from({ length: 2 * count }, (_, i) => Math.abs(Math.round(noise[i]! * 1e4)) % 256),
    absmax: randomF32(2 * blocks, 3, 0.01).map((x) => Math.abs(x) + 1e-4),
    maps: MOMENT_MAP_VALUES,
    step: scalars(3),
    totals: clipped(0.5),
  };
}

describe("adamw8bit", () => {
  // Workgroups take four blocks.
  for (const blocks of [1, 3, 4, 7, 65]) {
    it(`equals its twin: ${blocks} blocks`, async () => {
      const [call, data] = [adamwCall(blocks), randomState(blocks)];
      const want = runTwin(call, data);
      for (const [variant, got] of await runVariants(context.gpu, call, data))
        expectWritten(got, want, data, variant);
    });
  }

  it("leaves parameters and moments alone when the norm was not finite", async () => {
    const [call, data] = [adamwCall(5), { ...randomState(5), totals: clipped(0) }];
    for (const got of [runTwin(call, data), ...(await runVariants(context.gpu, call, data)).values()]) {
      for (const name of ["parameter", "codes", "absmax"] as const)
        expect(Array.from(got[name]!)).toEqual(Array.from(data[name]));
      expect(got["gradient"]!.every((x) => x === 0)).toBe(true);
    }
  });

  it("takes steps without a gradient from moments that are all zero", async () => {
    const data = { ...randomState(2), gradient: new Float32Array(512), step: scalars(0) };
    const zeros = { ...data, codes: new Uint8Array(1024), absmax: new Float32Array(4) };
    const call = adamwCall(2);
    const want = data.parameter.map((x) => x * (1 - settings.learning_rate * settings.weight_decay));
    for (const got of [runTwin(call, zeros), ...(await runVariants(context.gpu, call, zeros)).values()]) {
      expectClose(got["parameter"]!, want, 1e-6, "parameters only decay");
      expect(got["absmax"]!.every((x) => x === 0)).toBe(true);
    }
  });

  it("codes every entry as itself and every midpoint as the even one of two, as bitsandbytes' CUDA kernel", async () => {
    // With beta1 = 0 and a maximum of 1 the gradients are what is coded.
    const step = scalars(0).with(7, 0).with(9, 1);
    const middles = Array.from({ length: 255 }, (_, i) =>
      Math.fround(Math.fround(DYNAMIC_MAP[i]! + DYNAMIC_MAP[i + 1]!) * 0.5),
    );
    const gradient = Float32Array.of(...DYNAMIC_MAP, ...middles, 1);
    const data = { gradient, maps: MOMENT_MAP_VALUES, step, totals: clipped(1) };
    const want = [
      ...Array.from({ length: 256 }, (_, i) => i),
      ...Array.from({ length: 255 }, (_, i) => i + (i % 2)),
      255,
    ];
    const call = adamwCall(2);
    for (const got of [runTwin(call, data), ...(await runVariants(context.gpu, call, data)).values()])
      expect(Array.from(got["codes"]!.subarray(0, 512))).toEqual(want);
  });

  it("keeps the sign of a first moment that is nearer to 0 than to any other entry", async () => {
    const step = scalars(0).with(7, 0).with(9, 1);
    const gradient = new Float32Array(256).fill(-1e-8).with(0, 1).with(1, 1e-8).with(2, 0);
    const data = { gradient, maps: MOMENT_MAP_VALUES, step, totals: clipped(1) };
    const call = adamwCall(1);
    for (const got of [runTwin(call, data), ...(await runVariants(context.gpu, call, data)).values()])
      expect(Array.from(got["codes"]!.subarray(0, 4))).toEqual([255, 127, 127, 126]);
  });

  it("refuses a count that is no whole number of blocks", () => {
    expect(() => callAdamw8bit("layer", {} as never, { count: 300 })).toThrow("layer: 300 values");
  });
});

describe("steps of bitsandbytes", () => {
  const golden = goldenTensors("../adamw8bit/steps.safetensors");
  const blocks = 8;
  for (const step of [1, 2, 3, 4]) {
    it(`step ${step}, from its state before`, async () => {
      const first = step === 1;
      const data = {
        parameter: golden.f32(`${step - 1}.parameter`),
        gradient: golden.f32(`${step}.gradient`),
        codes: first ? new Uint8Array(2 * blocks * MOMENT_BLOCK) : golden.u8(`${step - 1}.codes`),
        absmax: first ? new Float32Array(2 * blocks) : golden.f32(`${step - 1}.absmax`),
        maps: MOMENT_MAP_VALUES,
        step: scalars(step - 1),
        totals: clipped(settings.clip),
      };
      const want = {
        parameter: golden.f32(`${step}.parameter`),
        gradient: new Float32Array(blocks * MOMENT_BLOCK),
        codes: golden.u8(`${step}.codes`),
        absmax: golden.f32(`${step}.absmax`),
      };
      const call = adamwCall(blocks);
      expectWritten(runTwin(call, data), want, data, "twin");
      for (const [variant, got] of await runVariants(context.gpu, call, data))
        expectWritten(got, want, data, variant);
    });
  }
});
