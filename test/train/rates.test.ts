/** The time that a plan expects, against counting by hand. */
import { expect, it } from "vitest";
import { resolveFinetuneConfig } from "../../src/config/resolve.js";
import { tensorBytes } from "../../src/program/tensor.js";
import { stateTensors } from "../../src/adapter/layout.js";
import { fitMemory, type PlannedRun } from "../../src/train/memory.js";
import { geometryShape } from "../../src/train/plan.js";
import { expectedTime, type ExpectedTime } from "../../src/train/rates.js";

const CAPACITY = 256;
/** Bytes a second: so seconds of transfers are their bytes. */
const RATES = { flops: 1e9, upload: 1 };

async function planned(stream_layers: string): Promise<PlannedRun> {
  const flags = { stream_layers, max_seq_length: CAPACITY, use_dora: false, checkpoint_place: "gpu" };
  const config = await resolveFinetuneConfig(flags, undefined, ["model", "data", "output_dir"]);
  return fitMemory(geometryShape("smollm2-135m", config), config, undefined);
}

const expected = (run: PlannedRun, accumulation: number): ExpectedTime =>
  expectedTime(run, { capacity: CAPACITY, accumulation }, RATES);

it("adds what streamed layers move, and a micro-batch's share of what the optimizer moves of them", async () => {
  const run = await planned("all");
  const { frozenBytes = 0, arenas = new Map<number, never>() } = run.model.ring ?? {};
  const layers = run.model.layers.length;
  let [parameters, states] = [0, 0];
  for (const arena of arenas.values()) {
    parameters += tensorBytes(arena.parameter);
    states += stateTensors(arena).reduce((sum, t) => sum + tensorBytes(t), 0);
  }
  // The last layer's slot is still filled when backward starts, and so is the one before.
  const weights = 2 * layers - 2;
  const adapters = ((2 * layers - 2) / layers) * parameters;
  const gradients = 2 * parameters;
  const microBatch = weights * frozenBytes + adapters + gradients;
  // Gradients for their norm, then all there and back.
  const optimizer = parameters + 2 * states;
  for (const accumulation of [1, 16]) {
    expect(expected(run, accumulation).transferSeconds).toBeCloseTo(microBatch + optimizer / accumulation, 0);
  }
  expect(expected(run, 1).tokensForTenth).toBeGreaterThan(expected(run, 16).tokensForTenth);
});

it("expects no transfers of layers that stay", async () => {
  const time = expected(await planned("0"), 1);
  expect([time.transferSeconds, time.tokensForTenth]).toEqual([0, 0]);
});
