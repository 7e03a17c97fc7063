// The longest row whose whole run fits a GPU, by the planner alone.
import { resolveFinetuneConfig } from "../../dist/config/resolve.js";
import { fitMemory } from "../../dist/train/memory.js";
import { geometryShape } from "../../dist/train/plan.js";
import { table } from "../shared/table.mjs";

const [GEOMETRIES, SIZES, RANK] = [["llama-2-7b", "llama-3.1-8b", "llama-2-13b"], [6, 8, 12, 16, 24], 32];
/** What a common GPU binds at once and allocates as one buffer. */
const [BINDING_BYTES, BUFFER_BYTES] = [2 ** 31, 2 ** 32];
const STEP = 128;

const settings = await resolveFinetuneConfig(
  {
    rank: RANK,
    optimizer: "adamw8bit",
    checkpoint_place: "host",
    stream_layers: "0",
    max_seq_length: STEP,
  },
  undefined,
  ["model", "data", "output_dir"],
);

/** A run's memory at any number of tokens: more than the model has positions, too. */
function bytesAt(geometry, tokens) {
  const shape = { ...geometryShape(geometry, settings), capacity: tokens, positions: tokens };
  const run = fitMemory(shape, settings, undefined);
  const isTooLarge =
    run.plan.largestBinding.bytes > BINDING_BYTES || run.plan.buffers.some((b) => b.bytes > BUFFER_BYTES);
  return {
    gpu: isTooLarge ? Infinity : run.plan.totalBytes,
    host: [...run.host.values()].reduce((a, b) => a + b, 0),
  };
}

function longest(geometry, limit) {
  const fits = (steps) => bytesAt(geometry, steps * STEP).gpu <= limit;
  if (!fits(1)) return 0;
  let [least, most] = [1, 2];
  while (fits(most)) [least, most] = [most, most * 2];
  while (most - least > 1) {
    const middle = (least + most) >> 1;
    if (fits(middle)) least = middle;
    else most = middle;
  }
  return least * STEP;
}

export function contextText() {
  const rows = [];
  for (const geometry of GEOMETRIES) {
    const cells = [];
    for (const gigabytes of SIZES) {
      console.error(`longest row of ${geometry} in ${gigabytes} GB`);
      const tokens = longest(geometry, gigabytes * 1e9);
      const host = tokens > 0 ? bytesAt(geometry, tokens).host : 0;
      cells.push(tokens === 0 ? "-" : `${tokens.toLocaleString("en-US")} (${(host / 1e9).toFixed(1)} GB)`);
    }
    rows.push([geometry, ...cells]);
  }
  return [
    `## The longest row that fits, rank ${RANK}`,
    "",
    "- all weights resident, 8-bit moments, layer inputs on the host (in brackets: host memory for them)",
    "- what the memory allows: a model's own positions may end before (4,096 for Llama 2), and no tensor may outgrow what a common GPU",
    "  binds at once (2 GiB) or allocates (4 GiB)",
    "- Unsloth's figures are those that it publishes for QLoRA (LoRA, not DoRA), measured on its side",
    "",
    table(
      ["", ...SIZES.map((size) => `${size} GB`)],
      [...rows, ["Unsloth, Llama 3.1 8B", "", "2,972", "21,848", "40,724", "78,475"]],
    ),
  ].join("\n");
}
