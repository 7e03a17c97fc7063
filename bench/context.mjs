// The longest sequence whose whole run fits a GPU, by the planner alone: no GPU is needed.
// usage: npm run build && node bench/context.mjs [--rank 32] [--sizes 6,8,12,16,24] [--geometry llama-2-7b,llama-3.1-8b,llama-2-13b] [--json]
import { parseArgs } from "node:util";
import { resolveFinetuneConfig } from "../dist/config/resolve.js";
import { geometry } from "../dist/model/geometries.js";
import { fitMemory } from "../dist/train/memory.js";
import { layoutOf } from "../dist/train/prepare.js";

const { values: flags } = parseArgs({
  options: {
    rank: { type: "string", default: "32" },
    sizes: { type: "string", default: "6,8,12,16,24" },
    geometry: { type: "string", default: "llama-2-7b,llama-3.1-8b,llama-2-13b" },
    json: { type: "boolean", default: false },
  },
});

const settings = await resolveFinetuneConfig(
  { rank: Number(flags.rank), optimizer: "adamw8bit", checkpoint_place: "host", stream_layers: "0" },
  undefined,
  ["model", "data", "output_dir"],
);

/** What a common GPU binds at once and allocates as one buffer. */
const [BINDING_BYTES, BUFFER_BYTES] = [2 ** 31, 2 ** 32];

/** All weights resident, layer inputs on the host, 8-bit moments, head as stored. */
function bytesAt(arch, layout, tokens) {
  const format = { format: "nf4", blockSize: 64, doubleQuant: true };
  const shape = { arch, linear: () => format, table: "bf16", head: "bf16", layout };
  const run = fitMemory(
    { ...shape, capacity: tokens, positions: tokens, evaluates: false },
    settings,
    undefined,
  );
  const isTooLarge =
    run.plan.largestBinding.bytes > BINDING_BYTES || run.plan.buffers.some((b) => b.bytes > BUFFER_BYTES);
  return {
    gpu: isTooLarge ? Infinity : run.plan.totalBytes,
    host: [...run.host.values()].reduce((a, b) => a + b, 0),
  };
}

const STEP = 128;

function longest(arch, layout, limit) {
  if (bytesAt(arch, layout, STEP).gpu > limit) return 0;
  let [fits, not] = [1, 2];
  while (bytesAt(arch, layout, not * STEP).gpu <= limit) [fits, not] = [not, not * 2];
  while (not - fits > 1) {
    const middle = (fits + not) >> 1;
    if (bytesAt(arch, layout, middle * STEP).gpu <= limit) fits = middle;
    else not = middle;
  }
  return fits * STEP;
}

const sizes = flags.sizes.split(",").map(Number);
const rows = flags.geometry.split(",").map((name) => {
  const arch = geometry(name);
  const layout = layoutOf(arch, settings);
  const cells = sizes.map((gb) => {
    const tokens = longest(arch, layout, gb * 1e9);
    return { gb, tokens, hostBytes: tokens > 0 ? bytesAt(arch, layout, tokens).host : 0 };
  });
  return { name, positions: arch.maxPositions, cells };
});

if (flags.json) console.log(JSON.stringify(rows));
else {
  const cell = ({ tokens, hostBytes }) =>
    tokens === 0 ? "-" : `${tokens.toLocaleString("en-US")} (${(hostBytes / 1e9).toFixed(1)} GB)`;
  console.log(`| QDoRA rank ${flags.rank} | ${sizes.map((gb) => `${gb} GB`).join(" | ")} |`);
  console.log(`|---|${sizes.map(() => "---|").join("")}`);
  for (const { name, cells } of rows) console.log(`| ${name} | ${cells.map(cell).join(" | ")} |`);
}
