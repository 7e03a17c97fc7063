// What real GPUs' drivers make of the kernels, for GPUs that are not here: the chosen variant of each, compiled, and the CPU side of a step.
// usage: gpu_table.mjs TOOL [--devices A,B] [--only PATTERN] [--json] [--write]   (through gpu_table.sh, after npm run build)
//   TOOL     where the gpu-stats tool was set up: stats.sh, labels.mjs and a node that runs on its libraries
//   --only   a regular expression over "kernel file defines"
//   --json   all rows, instead of tables
//   --write  puts the tables into bench/RESULTS.md
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { machineText, ownVersions } from "../bench/shared/machine.mjs";
import { writeSection } from "../bench/shared/section.mjs";
import { versionsText } from "../bench/shared/table.mjs";
import { expandWgsl } from "../dist/gpu/wgsl.js";
import { hostText } from "./gpu_table/host.mjs";
import { innermostLoops } from "./gpu_table/loops.mjs";
import { multiplyingLoop, pipelineStats, withOther, workgroupBytes } from "./gpu_table/stats.mjs";
import { resultsText } from "./gpu_table/text.mjs";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    devices: { type: "string", default: "" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});
const [tool] = positionals;
if (tool === undefined) {
  console.error("usage: gpu_table.mjs TOOL [--devices A,B] [--only PATTERN] [--json] [--write]");
  process.exit(2);
}

/** The tool's names. */
const DEVICES = {
  rtx2060: ["nvidia", "RTX 2060"],
  rtx3090: ["nvidia", "RTX 3090"],
  rtx4090: ["nvidia", "RTX 4090"],
  rtx5090: ["nvidia", "RTX 5090"],
  "arc-a770": ["intel", "Arc A770"],
  "arc-b580": ["intel", "Arc B580"],
  lnl: ["intel", "Lunar Lake"],
  navi21: ["amd", "RX 6900"],
  navi31: ["amd", "RX 7900"],
  gfx1201: ["amd", "RX 9070"],
};

/**
 * Mesa's compiler for Intel reads heap memory that it never wrote, and lets it decide whether neighbouring loads of workgroup memory
 * become one. glibc fills memory with the inverse of MALLOC_PERTURB_: zeros, which new memory mostly has, and then something else.
 */
const HEAPS = { nvidia: [{}], intel: [{ MALLOC_PERTURB_: "255" }, { MALLOC_PERTURB_: "1" }], amd: [{}] };

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Runs the compiling half on a device, with more variables. @returns its last line, the tool's lines, and the machine code by pipeline */
function compile(device, vendor, heap) {
  const folder = mkdtempSync(join(tmpdir(), "gpu-table-"));
  try {
    const args = [device, "node", "--import", join(tool, "labels.mjs"), here("gpu_table/compile.mjs")];
    if (flags.only) args.push("--only", flags.only);
    if (vendor === "nvidia") args.push("--no-bounds-checks");
    const run = spawnSync(join(tool, "stats.sh"), args, {
      encoding: "utf8",
      maxBuffer: 1 << 28,
      cwd: here(".."),
      env: {
        ...process.env,
        ...heap,
        GPU_STATS_FILE: join(folder, "lines"),
        GPU_STATS_IR: join(folder, "ir"),
      },
    });
    if (run.status !== 0) throw new Error(`${device}: ${run.error?.message ?? run.stderr}`);
    const made = JSON.parse(run.stdout.trim().split("\n").at(-1));
    if (made.entries.length === 0) return { made, lines: [], code: new Map() };
    const code = new Map();
    for (const name of readdirSync(join(folder, "ir"))) {
      if (/(NAK_assembly|GEN_Assembly|-Assembly)\.txt$/.test(name))
        code.set(Number(name.split("-")[0]), readFileSync(join(folder, "ir", name), "utf8"));
    }
    const lines = readFileSync(join(folder, "lines"), "utf8").trim().split("\n");
    return { made, lines: lines.map((l) => JSON.parse(l)), code };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function compiledRows(device, heap) {
  const [vendor] = DEVICES[device];
  const { made, lines, code } = compile(device, vendor, heap);
  const rows = made.entries.map((entry) => {
    const line = lines.find((l) => l.label === entry.key);
    if (!line?.executables[0]) throw new Error(`${device}: no statistics of ${entry.key}`);
    const bytes = workgroupBytes(expandWgsl(entry.file, entry.defines));
    const loop = multiplyingLoop(innermostLoops(code.get(line.pipeline) ?? "", vendor));
    return { ...entry, workgroupBytes: bytes, ...pipelineStats(device, vendor, line, bytes), loop };
  });
  return { adapter: made.adapter, rows };
}

function measure(device) {
  const [vendor, title] = DEVICES[device];
  const [{ adapter, rows }, other] = HEAPS[vendor].map((heap) => compiledRows(device, heap));
  const compiled = other
    ? rows.map((row) =>
        withOther(
          row,
          other.rows.find((r) => r.key === row.key),
        ),
      )
    : rows;
  return { device, vendor, title, adapter, rows: compiled };
}

if (flags.write && (flags.only || flags.devices)) {
  console.error("a part of the table is not written: leave out --write, or --only and --devices");
  process.exit(2);
}
const wanted = flags.devices ? flags.devices.split(",") : Object.keys(DEVICES);
const unknown = wanted.find((device) => !(device in DEVICES));
if (unknown !== undefined) {
  console.error(`no device "${unknown}"; there are ${Object.keys(DEVICES).join(", ")}`);
  process.exit(2);
}
const results = wanted.map((device) => {
  console.error(`compiling for ${DEVICES[device][1]}`);
  return measure(device);
});
const mesa = /Mesa [\w.~+-]+/.exec(results[0].adapter.name)?.[0] ?? results[0].adapter.name;
const facts = [
  `${mesa} (NVK, ANV, RADV); ${versionsText(ownVersions())}; ${machineText()}`,
  "`npm run bench:gpus -- TOOL --write`, TOOL being the folder of the gpu-stats tool (not part of this repository)",
];
const sections = [["gpus", resultsText(results, facts)]];
const isWhole = !flags.only && !flags.devices;
if (isWhole && !flags.json) sections.push(["drivers", hostText(tool, facts, here(".."))]);
for (const [name, text] of sections) {
  if (flags.write) writeSection(here("../bench/RESULTS.md"), name, text);
  else if (!flags.json) console.log(text);
}
if (flags.json) console.log(JSON.stringify(results));
