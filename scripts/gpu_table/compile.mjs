// Compiles the chosen variant of every kernel, and what else the tuner may choose, for the Vulkan device at hand, one pipeline after the other: the inner half of
// gpu_table.mjs, which runs it once per device. The last line of its output is JSON: what the adapter is and what was compiled.
// usage: compile.mjs [--only PATTERN] [--no-bounds-checks]
import { parseArgs } from "node:util";
import { openGpu } from "../../dist/gpu/device.js";
import { Pipelines } from "../../dist/gpu/pipelines.js";
import { ALL_KERNELS } from "../../dist/kernels/index.js";
import { acceptedVariants } from "../../dist/program/executor.js";
import { modelCalls } from "./calls.mjs";

const { values: flags } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    "no-bounds-checks": { type: "boolean", default: false },
  },
});

const gpu = await openGpu({ dawnFeatures: flags["no-bounds-checks"] ? ["disable_robustness"] : [] });
const pipelines = new Pipelines(gpu);
const made = new Map();
/** The variant of a fixed table, and small tiles, which the tuner takes where they are faster. */
const candidates = (call) =>
  acceptedVariants(call, gpu).filter(({ name }, i) => i === 0 || name.startsWith("small_"));
const calls = [...modelCalls()].flatMap(({ model, call }) =>
  candidates(call).map((variant) => ({ model, call, variant })),
);
for (const { model, call, variant } of calls) {
  // The plain tile that a matrix is compared with is the same, whatever f16 is allowed.
  const { HALF: isHalf, SPLIT: _isSplit, ...options } = call.options;
  // Where f16 changes nothing, the f32 call has been compiled already.
  if (isHalf && !variant.name.endsWith("matrix")) continue;
  const defines = variant.defines(call, gpu.traits);
  const key = `${variant.file} ${JSON.stringify(defines, Object.keys(defines).toSorted())}`;
  if (!new RegExp(flags.only).test(`${call.kernel.name} ${key}`)) continue;
  const known = made.get(key);
  if (known) {
    known.calls.add(`${model}: ${call.label}`);
    continue;
  }
  const entry = {
    key,
    kernel: call.kernel.name,
    variant: variant.name,
    file: variant.file,
    defines,
    options,
  };
  made.set(key, { ...entry, calls: new Set([`${model}: ${call.label}`]) });
  await pipelines.get(variant.file, defines);
}
const missing = ALL_KERNELS.filter((k) => ![...made.values()].some((e) => e.kernel === k.name));
if (flags.only === "" && missing.length > 0)
  throw new Error(`no call of ${missing.map((k) => k.name).join(", ")} in calls.mjs`);
const entries = [...made.values()].map((e) => ({ ...e, calls: [...e.calls] }));
const { name, vendor, subgroupMinSize, subgroupMaxSize } = gpu.traits;
process.stdout.write(
  `\n${JSON.stringify({ adapter: { name, vendor, subgroupMinSize, subgroupMaxSize }, entries })}\n`,
);
await gpu.destroy();
