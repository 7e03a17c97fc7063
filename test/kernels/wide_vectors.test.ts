/** Kernels for software adapters with vectors of 512 bits, where lanes load their own weights. */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { acceptedVariants } from "../../src/program/executor.js";
import type { Call } from "../../src/program/kernel.js";
import * as attention from "./attention_calls.js";
import { compareWithTwin, useGpu, type Comparison } from "./harness.js";
import * as products from "./product_calls.js";

/** As with-gpu.sh has it: other processors compile them for minutes, and nothing takes them there. */
const hasThem =
  process.env["QDORA_SOFTWARE_GPU"] === "1" &&
  existsSync("/proc/cpuinfo") &&
  /\bavx512f\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
// A test file has a process of its own, and the driver reads this when the GPU is opened.
process.env["LP_NATIVE_VECTOR_WIDTH"] = "512";

describe.runIf(hasThem)("vectors of 512 bits", () => {
  const context = useGpu();
  const compare = (call: Call, how: Omit<Comparison, "only">) =>
    compareWithTwin(context.gpu, call, { ...how, only: ["software"] });

  it("are what the adapter has, without matrices", () => {
    expect(context.gpu.traits.subgroupMinSize).toBe(16);
    expect(context.gpu.traits.matrixShapes).toEqual([]);
  });

  for (const c of [...products.CASES.filter(({ software }) => software), ...products.LARGE]) {
    it(`give the products of the twins: ${products.describeCase(c)}`, async () => {
      // As in product.test.ts.
      for (const { call, data } of [products.forward(c), products.backward(c)])
        await compare(call, { tolerance: 3e-6, data });
    });
  }

  for (const c of attention.CASES.filter(({ lengths }) => lengths.length > 1)) {
    it(`give the attention of the twins: ${attention.describeCase(c)}`, async () => {
      const { data, calls } = attention.inputs(c);
      attention.runTwins(calls.slice(0, 1), data);
      for (const [i, lse] of data["lse"]!.entries()) data["statistics"]![2 * i] = lse;
      for (const call of [calls[0], calls[2], calls[3]])
        if (acceptedVariants(call, context.gpu).some(({ name }) => name === "software"))
          // As in attention.test.ts.
          await compare(call, { tolerance: 4e-6, data: attention.uploaded(c, data) });
    });
  }
});
