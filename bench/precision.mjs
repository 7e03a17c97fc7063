// Every compute_dtype against f32: the curve of training losses and the held-out loss of whole runs (NF4, DoRA), by the command line.
// usage: npm run bench:precision [-- --model FOLDER] [--data FILE] [--steps 100] [--length 128] [--rows 1] [--accumulation 1] [--held-out 4] [--dtypes auto,f16] [--json | --write]   (the model: SmolLM2-135M of `npm run test:real`)
// On a software GPU f16 is forced onto its matrices, where it takes thirty times as long as f32: an hour and a half on two cores.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openGpu } from "../dist/gpu/device.js";
import { machineText, ownVersions } from "./shared/machine.mjs";
import { median } from "./shared/numbers.mjs";
import { refuseIn } from "./shared/refuse.mjs";
import { writeSection } from "./shared/section.mjs";
import { measuredWith, reached, table } from "./shared/table.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const DTYPES = ["auto", "f16"];

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: process.env.QDORA_SMOLLM2 ?? "" },
    data: { type: "string" },
    steps: { type: "string", default: "100" },
    length: { type: "string", default: "128" },
    rows: { type: "string", default: "1" },
    accumulation: { type: "string", default: "1" },
    "held-out": { type: "string", default: "4" },
    dtypes: { type: "string", default: DTYPES.join() },
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});

const refuse = refuseIn("bench:precision");

if (flags.model === "") refuse("no model", "give --model FOLDER, or QDORA_SMOLLM2=FOLDER");
const own = join(flags.model, "demo", "train.jsonl");
const data = flags.data ?? (existsSync(own) ? own : here("../test/fixtures/smollm2/messages.jsonl"));
const dtypes = flags.dtypes.split(",");
const unknown = dtypes.find((name) => !DTYPES.includes(name));
if (unknown !== undefined) refuse(`--dtypes has ${unknown}`, `choose from ${DTYPES.join(", ")}`);
for (const name of ["steps", "length", "rows", "accumulation", "held-out"])
  if (!/^[1-9]\d*$/.test(flags[name])) refuse(`--${name} is ${flags[name]}`, "give a whole number from 1 on");

const gpu = await openGpu();
const { name: adapter, isSoftware, matrixShapes } = gpu.traits;
await gpu.destroy();
if (dtypes.includes("f16") && matrixShapes.length === 0)
  refuse(`${adapter} has no matrix units`, "leave f16 out: --dtypes auto");

function train(dtype) {
  const folder = mkdtempSync(join(tmpdir(), "qdora-bench-"));
  const settings = {
    model: flags.model,
    data,
    "output-dir": folder,
    "compute-dtype": dtype,
    "max-steps": flags.steps,
    "max-seq-length": flags.length,
    "batch-size": flags.rows,
    "gradient-accumulation-steps": flags.accumulation,
    "val-size": flags["held-out"],
    tune: "off",
  };
  const args = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value]);
  // A software GPU has matrices that nothing would choose: they are slower there than its own way.
  const env = dtype === "f16" && isSoftware ? { ...process.env, QDORA_VARIANT: "matrix" } : process.env;
  console.error(`${dtype}: ${flags.steps} steps`);
  const run = spawnSync(process.execPath, [here("../dist/cli.js"), "finetune", ...args], {
    encoding: "utf8",
    env,
  });
  if (run.status !== 0) {
    console.error(run.stderr);
    process.exit(1);
  }
  const lines = readFileSync(join(folder, "metrics.jsonl"), "utf8").trim().split("\n").map(JSON.parse);
  rmSync(folder, { recursive: true });
  const steps = lines.filter((line) => line.loss !== undefined);
  return {
    dtype,
    losses: steps.map((line) => line.loss),
    held: lines.findLast((line) => line.eval_loss !== undefined)?.eval_loss,
    bytes: steps[0].gpu_bytes,
  };
}

const exact = train("f32");
const percent = (got, want) => 100 * Math.abs(got / want - 1);
const rows = dtypes.map((dtype) => {
  const run = train(dtype);
  const differences = run.losses.map((loss, i) => percent(loss, exact.losses[i]));
  const largest = Math.max(...differences);
  return {
    dtype,
    first: differences[0],
    median: median(differences),
    largest,
    step: differences.indexOf(largest) + 1,
    heldOut: percent(run.held, exact.held),
    gpuBytes: run.bytes,
  };
});

/** In percent of f32's: a step's loss, and the held-out loss after the last. */
const [LARGEST, LARGEST_HELD_OUT] = [0.5, 0.2];

const shape = `${flags.steps} steps of ${flags.rows} x ${flags.length} tokens x ${flags.accumulation}`;
const text = [
  "## What compute_dtype costs in exactness",
  "",
  ...measuredWith(
    { machine: machineText(), adapter, versions: ownVersions() },
    "npm run bench:precision -- --write",
  ),
  `- ${basename(flags.model)}, ${shape}; NF4, DoRA, rank 16 on all linear layers, ${flags["held-out"]} rows held out`,
  `- f32: loss ${exact.losses[0]} to ${exact.losses.at(-1)}, held-out ${exact.held}`,
  `- wanted: a step's loss within ${LARGEST} % of f32's, the held-out loss within ${LARGEST_HELD_OUT} %`,
  "",
  table(
    [
      "compute_dtype",
      "first loss off by",
      "median",
      "largest",
      "in step",
      "held-out off by",
      "GPU bytes",
      "reached",
    ],
    rows.map((r) => [
      r.dtype,
      `${r.first.toFixed(4)} %`,
      `${r.median.toFixed(4)} %`,
      `${r.largest.toFixed(4)} %`,
      r.step,
      `${r.heldOut.toFixed(4)} %`,
      r.gpuBytes,
      reached(r.largest <= LARGEST && r.heldOut <= LARGEST_HELD_OUT),
    ]),
  ),
].join("\n");
if (flags.json) console.log(JSON.stringify({ adapter, f32: { ...exact }, rows }));
else console.log(text);
if (flags.write) writeSection(here("RESULTS.md"), "precision", text);
