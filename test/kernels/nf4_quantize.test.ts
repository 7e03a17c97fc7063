import { describe, expect, it } from "vitest";
import { openGpu } from "../../src/gpu/device.js";
import { Pipelines } from "../../src/gpu/pipelines.js";
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import { callNf4Quantize, nf4Quantize } from "../../src/kernels/nf4_quantize.js";
import type { Call } from "../../src/program/kernel.js";
import { quantizeNf4 } from "../../src/quant/nf4.js";
import { blocksAroundBounds, blocksOfTies, goldenTensors, nf4Cases } from "../quant/nf4_fixture.js";
import { compareWithTwin, given, random, randomF32, useGpu } from "./harness.js";

const context = useGpu();

function quantizeCall(out: number, width: number, blockSize: number): Call {
  const codes = given("codes", [out, Math.ceil(width / 8)], "u32");
  const absmax = given("absmax", [Math.ceil((out * width) / blockSize)]);
  return callNf4Quantize(
    "test",
    { values: given("values", [out, width]), codes, absmax },
    { out, in: width, blockSize },
  );
}

/** Every bit must be the twin's, whose bits are bitsandbytes'. */
const compareBits = (call: Call, values: Float32Array): Promise<unknown> =>
  compareWithTwin(context.gpu, call, { tolerance: 0, data: { values } });

describe("nf4_quantize", () => {
  for (const { file, shape, blocksize } of nf4Cases) {
    it(`gives bitsandbytes' bits for ${file}`, async () => {
      const [out, width] = shape;
      await compareBits(quantizeCall(out, width, blocksize), goldenTensors(file).widened("src"));
    });
  }

  for (const [out, width, blockSize] of [
    [1, 1, 64],
    [7, 65, 64],
    [65, 40, 128],
    [3, 577, 8],
    [2, 1000, 4096],
    [5, 7, 64],
    [33, 192, 256],
  ] as const) {
    it(`equals its twin at [${out}, ${width}] with blocks of ${blockSize}`, async () => {
      await compareBits(quantizeCall(out, width, blockSize), randomF32(out * width, width));
    });
  }

  it("rounds as IEEE 754 around the bounds, subnormals and the largest floats included", async () => {
    const next = random(7);
    const usual = Array.from({ length: 60 }, () => Math.abs(next()) + 0.01);
    const extreme = [
      1, 2, 0.5, 1.9999998807907104, 3.4028234663852886e38, 2.5e38, 1.7014118346046923e38, 8.5e37, 1.2e-38,
      1e-38, 9e-39, 1e-41, 1e-45,
    ];
    const values = blocksAroundBounds([...usual, ...extreme]);
    await compareBits(quantizeCall(values.length / 64, 64, 64), values);
  });

  it("rounds half to even", async () => {
    const values = blocksOfTies();
    await compareBits(quantizeCall(values.length / 64, 64, 64), values);
  });

  it("divides in a short last block", async () => {
    const next = random(8);
    for (const top of [...Array.from({ length: 6 }, () => Math.abs(next()) + 0.01), 3e38, 3e-39, 0]) {
      for (let from = 0; from < 15; from += 5) {
        // One bound after the other in the 63 values of a single short block.
        const around = blocksAroundBounds([top])
          .filter((_, i) => i % 64 !== 0)
          .slice(from * 63, (from + 5) * 63);
        const short = Float32Array.from({ length: 300 }, (_, i) => (i === 0 ? Math.fround(top) : around[i]!));
        await compareBits(quantizeCall(1, 300, 512), short);
      }
    }
  });

  it("writes the words of whole rows as bitsandbytes' bytes", () => {
    const values = randomF32(4 * 64, 9);
    const call = quantizeCall(4, 64, 64);
    const codes = new Uint32Array(32);
    nf4Quantize.twin({ values, codes, absmax: new Float32Array(4) }, call);
    expect(new Uint8Array(codes.buffer)).toEqual(quantizeNf4(values, 64).codes);
  });

  it("compiles everywhere", async () => {
    const gpu = await openGpu({ backend: "null" });
    for (const variant of nf4Quantize.variants) {
      await new Pipelines(gpu).get(variant.file, variant.defines(quantizeCall(2, 70, 64), PORTABLE_TRAITS));
    }
    gpu.check();
    await gpu.destroy();
  });
});
