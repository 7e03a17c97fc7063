// The CPU side of an optimizer step: time in which this process works and does not wait for the GPU, with the GPU and without a driver
// (Dawn's null backend records and validates everything, and computes nothing).
// usage: npm run bench:host [-- MODEL] [--lengths 64,256] [--rounds 100] [--json | --write]   (default: models/tiny)
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { resolveFinetuneConfig } from "../dist/config/resolve.js";
import { openGpu } from "../dist/gpu/device.js";
import { measureThroughput } from "../dist/train/throughput_bench.js";
import { adapterText, machineText, ownVersions } from "./shared/machine.mjs";
import { writeSection } from "./shared/section.mjs";
import { measuredWith, reached, table } from "./shared/table.mjs";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    lengths: { type: "string", default: "64,256" },
    rounds: { type: "string", default: "100" },
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});
const [model = "models/tiny"] = positionals;
/** Of the tiny model's step. */
const MOST_MS = 2;
const NULL_ROUNDS = 200;

async function measure(gpu, steps) {
  const rows = [];
  for (const checkpointing of ["none", "full"]) {
    for (const length of flags.lengths.split(",").map(Number)) {
      const settings = await resolveFinetuneConfig(
        { model, max_seq_length: length, batch_size: 1, gradient_checkpointing: checkpointing, tune: "off" },
        undefined,
        ["data", "output_dir"],
      );
      const what = { geometry: undefined, settings, methods: ["dora"], steps, limit: undefined };
      const [dora] = await measureThroughput({ ...what, sideBySideBytes: 0 }, gpu, () => {});
      rows.push({ checkpointing, length, dispatches: dora.dispatches, hostMs: dora.hostMs });
    }
  }
  return rows;
}

const gpu = await openGpu();
const adapter = adapterText(gpu.traits);
const withDriver = await measure(gpu, Number(flags.rounds));
await gpu.destroy();
const nothing = await openGpu({ backend: "null" });
const without = await measure(nothing, NULL_ROUNDS);
await nothing.destroy();

const rows = withDriver.map((row, i) => ({ ...row, withoutDriverMs: without[i].hostMs }));
const text = [
  "## The CPU side of a step",
  "",
  ...measuredWith(
    { machine: machineText(), adapter, versions: ownVersions() },
    "npm run bench:host -- --write",
  ),
  `- ${basename(model)}, DoRA, 1 row; medians of the time in which the process worked and did not wait for the GPU`,
  "- without a driver: Dawn's null backend, everything recorded and validated, nothing computed. A software GPU's driver is on the CPU, and",
  "  its threads want the same cores while the rest of a step is recorded.",
  "",
  table(
    ["checkpointing", "tokens", "dispatches", "ms", "ms without a driver", "wanted", "reached"],
    rows.map((r) => [
      r.checkpointing,
      r.length,
      r.dispatches,
      r.hostMs.toFixed(2),
      r.withoutDriverMs.toFixed(2),
      `<= ${MOST_MS}`,
      reached(r.hostMs <= MOST_MS),
    ]),
  ),
].join("\n");
if (flags.json) console.log(JSON.stringify({ adapter, mostMs: MOST_MS, rows }));
else console.log(text);
if (flags.write) writeSection(fileURLToPath(new URL("RESULTS.md", import.meta.url)), "host", text);
