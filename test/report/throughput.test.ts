/** Rows of `qdora bench throughput` whose numbers are known. */
import { expect, it } from "vitest";
import { throughputJson, throughputTable, type ThroughputRow } from "../../src/report/throughput.js";

const row: ThroughputRow = {
  method: "dora",
  tokens: 256,
  stepSeconds: 2,
  tokensPerSecond: 128,
  productShare: 0.62,
  stepEfficiency: 0.514,
  dispatches: 1234,
  dispatchShare: 0.0149,
  hostMs: 1.26,
  loss: 3.5,
  gradNorm: 0.25,
  planBytes: 1e9,
  timeOverLora: undefined,
  interleaved: false,
  profile: { adapter: "a GPU", step: 1, clock: "timestamps", wallMs: 2000, calls: [] },
  model: "a model",
  length: 256,
  batch: 1,
  quant: "nf4",
  steps: 5,
};
const peak = { flopsPerSecond: 5e11, name: "f32 tile", shape: { N: 2, K: 3, M: 4 } };

it("prints efficiency, dispatches and the host's time", () => {
  const lines = throughputTable([row], peak, "a GPU").split("\n");
  const cells = lines.map((line) => line.split("|").map((cell) => cell.trim()));
  const cell = (name: string): string | undefined => cells[2]?.[cells[0]!.indexOf(name)];
  expect(cells.map((line) => line.length).slice(0, 3)).toEqual([17, 17, 17]);
  expect([cell("efficiency"), cell("dispatches"), cell("host ms")]).toEqual(["0.51", "1.5 %", "1.3"]);
  expect(cell("tok/s per TFLOP/s")).toBe("256");
});

it("has all of it in the JSON, without the calls of the profile", () => {
  const json = throughputJson(row, peak, "a GPU");
  expect(json).toMatchObject({
    stepEfficiency: 0.514,
    dispatches: 1234,
    dispatchShare: 0.0149,
    hostMs: 1.26,
  });
  expect(json).not.toHaveProperty("profile");
  expect(json).not.toHaveProperty("timeOverLora");
});
