/** Whole training runs with no GPU: every call by its f64 twin, against PEFT. */
import { join } from "node:path";
import { describe, it } from "vitest";
import { FIXTURES } from "../fixture_files.js";
import { trainByReference } from "./golden_reference.js";
import {
  expectGradients,
  expectSteps,
  expectUpdate,
  goldenConfig,
  goldenSteps,
  TOLERANCES,
} from "./golden_run.js";

describe("the f64 reference gives PEFT's numbers", () => {
  for (const name of ["qdora_llama", "qdora_qwen2"]) {
    it(name, async () => {
      const folder = join(FIXTURES, "training", name);
      const result = await trainByReference(await goldenConfig(folder));
      expectSteps(result.steps, goldenSteps(folder), TOLERANCES);
      await expectGradients(folder, result.gradients, TOLERANCES);
      await expectUpdate(folder, result.adapter, TOLERANCES);
    });
  }
});
