/** The table and the trace of a profile whose numbers are known. */
import { expect, it } from "vitest";
import type { TimedCall } from "../../src/program/profiler.js";
import { chromeTrace, profileRows, profileTable } from "../../src/report/profile.js";
import { productShare, type MeasuredProfile } from "../../src/train/profile.js";

const call = (kernel: string, variant: string, ms: number, flops: number, bytes: number): TimedCall => ({
  program: "micro-batch",
  kernel,
  variant,
  label: `a ${kernel}`,
  startMs: 1,
  ms,
  flops,
  bytes,
});
const calls = [
  call("rope", "pair", 1, 0, 1e6),
  call("nf4_product_forward", "tile", 2, 2e9, 4e6),
  call("nf4_product_forward", "tile", 4, 4e9, 8e6),
  call("upload", "upload", 3, 0, 6e6),
];
const profile: MeasuredProfile = {
  adapter: "a GPU",
  step: 2,
  clock: "timestamps",
  wallMs: 12,
  calls,
  peak: { flopsPerSecond: 2e12, name: "f32 tile", shape: { N: 2, K: 3, M: 4 } },
};

it("adds up calls by kernel and variant, the slowest first", () => {
  expect(profileRows(calls)[0]).toEqual({
    kernel: "nf4_product_forward",
    variant: "tile",
    calls: 2,
    ms: 6,
    share: 0.6,
    flops: 6e9,
    bytes: 12e6,
  });
  expect(profileRows(calls).map((r) => r.kernel)).toEqual(["nf4_product_forward", "upload", "rope"]);
  expect(productShare(calls)).toBe(0.6);
  expect(productShare([])).toBe(0);
});

it("prints rates, and shares of the best product", () => {
  const lines = profileTable(profile)
    .split("\n")
    .map((line) => line.replaceAll(/ +/g, " "));
  // 6 GFLOP in 6 ms are 1,000 GFLOP/s, half of the best; 12 MB in 6 ms are 2 GB/s.
  expect(lines[3]).toBe("| nf4_product_forward | tile | 2 | 6.00 | 60.0 % | 1000 | 2.00 | 50.0 % |");
  expect(lines[4]).toBe("| upload | upload | 1 | 3.00 | 30.0 % | - | 2.00 | - |");
  expect(lines[6]).toBe("| all | | 4 | 10.00 | 100.0 % | 600 | 1.90 | 30.0 % |");
  expect(lines[7]).toBe("best product of this adapter: 2000 GFLOP/s (f32 tile, 2 x 3 x 4)");
});

it("makes a trace in microseconds with transfers on a track of their own", () => {
  const { traceEvents } = JSON.parse(chromeTrace(profile)) as { traceEvents: Record<string, unknown>[] };
  expect(traceEvents[0]).toMatchObject({ ph: "M", tid: 1, args: { name: "micro-batch" } });
  expect(traceEvents[1]).toMatchObject({ ph: "M", tid: 2, args: { name: "transfers" } });
  expect(traceEvents[3]).toMatchObject({
    ph: "X",
    tid: 1,
    ts: 1000,
    dur: 2000,
    name: "a nf4_product_forward",
  });
  expect(traceEvents[5]).toMatchObject({ ph: "X", tid: 2, dur: 3000, cat: "upload" });
});

it.each(["nf4", "int8", "bf16"] as const)("counts products with %s weights as such", (format) => {
  const product = `${format === "bf16" ? "dense" : format}_product_backward_add`;
  expect(productShare([call(product, "tile", 2, 1, 1), call("rope", "pair", 2, 1, 1)])).toBe(0.5);
});
