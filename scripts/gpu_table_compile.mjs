// Compiles the chosen variant of every kernel for the Vulkan device at hand, one pipeline after the other: the inner half of
// gpu_table.mjs, which runs it once per device. Prints one JSON object: the adapter's traits and what was compiled.
// usage: gpu_table_compile.mjs [--only PATTERN] [--all-variants] [--no-bounds-checks]
import { parseArgs } from "node:util";
import { openGpu } from "../dist/gpu/device.js";
import { Pipelines } from "../dist/gpu/pipelines.js";
import { acceptedVariants } from "../dist/program/executor.js";
import { modelCalls } from "./gpu_table_calls.mjs";

const { values: flags } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    "all-variants": { type: "boolean", default: false },
    "no-bounds-checks": { type: "boolean", default: false },
  },
});

const gpu = await openGpu({ dawnFeatures: flags["no-bounds-checks"] ? ["disable_robustness"] : [] });
const pipelines = new Pipelines(gpu);
const made = new Map();
for (const { model, call } of modelCalls(process.env.HALF === "1" ? "f16" : "f32")) {
  const accepted = acceptedVariants(call, gpu);
  for (const variant of flags["all-variants"] ? accepted : accepted.slice(0, 1)) {
    const defines = variant.defines(call, gpu.traits);
    const key = `${variant.file} ${JSON.stringify(defines, Object.keys(defines).toSorted())}`;
    if (!new RegExp(flags.only).test(`${call.kernel.name} ${key}`)) continue;
    let entry = made.get(key);
    if (!entry) {
      entry = { key, kernel: call.kernel.name, variant: variant.name, defines, calls: new Set() };
      made.set(key, entry);
      try {
        await pipelines.get(variant.file, defines);
      } catch (error) {
        entry.error = String(error.message);
      }
    }
    entry.calls.add(`${model}: ${call.label}`);
  }
}
const entries = [...made.values()].map((e) => ({ ...e, calls: [...e.calls].slice(0, 4) }));
process.stdout.write(
  `${JSON.stringify({ traits: { ...gpu.traits, features: [...gpu.traits.features] }, entries })}\n`,
);
await gpu.destroy();
