// What real GPUs' compilers make of the chosen variant of every kernel, for GPUs that are not here.
// usage: gpu_table.mjs TOOL [--devices A,B] [--only PATTERN] [--all-variants] [--json] [--write]
//   TOOL     a folder that the gpu-stats tool was set up in (has stats.sh, ops.py, labels.mjs and node)
//   --write  puts the tables into bench/RESULTS.md
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { expandWgsl } from "../dist/gpu/wgsl.js";
import { innermostLoops } from "./gpu_table_loops.mjs";
import { multiplyingLoop, pipelineStats, workgroupBytes } from "./gpu_table_stats.mjs";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    devices: { type: "string", default: "" },
    only: { type: "string", default: "" },
    "all-variants": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});

export const DEVICES = {
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

function measure(tool, device) {
  const [vendor] = DEVICES[device];
  const folder = mkdtempSync(join(tmpdir(), "gpu-table-"));
  const args = [device, "node", "--import", join(tool, "labels.mjs")];
  args.push(fileURLToPath(new URL("gpu_table_compile.mjs", import.meta.url)));
  if (flags.only) args.push("--only", flags.only);
  if (flags["all-variants"]) args.push("--all-variants");
  if (vendor === "nvidia") args.push("--no-bounds-checks");
  const run = spawnSync(join(tool, "stats.sh"), args, {
    encoding: "utf8",
    maxBuffer: 1 << 28,
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    env: { ...process.env, GPU_STATS_FILE: join(folder, "lines"), GPU_STATS_IR: join(folder, "ir") },
  });
  if (run.status !== 0) throw new Error(`${device}: ${run.stderr || run.error || run.signal}`);
  const { traits, entries } = JSON.parse(run.stdout.slice(run.stdout.lastIndexOf("\n{") + 1));
  if (entries.length === 0) return { device, vendor, traits, rows: [] };
  const lines = readFileSync(join(folder, "lines"), "utf8").trim().split("\n").map((l) => JSON.parse(l));
  const texts = new Map();
  for (const name of readdirSync(join(folder, "ir"))) {
    if (/(NAK_assembly|GEN_Assembly|-Assembly)\.txt$/.test(name))
      texts.set(Number(name.split("-")[0]), readFileSync(join(folder, "ir", name), "utf8"));
  }
  rmSync(folder, { recursive: true });
  const rows = entries.map((entry) => {
    const line = lines.find((l) => l.label === entry.key);
    if (entry.error || !line) return { ...entry, error: entry.error ?? "no statistics" };
    const bytes = workgroupBytes(expandWgsl(entry.key.split(" ")[0], entry.defines));
    const stats = pipelineStats(device, vendor, line, bytes);
    return stats
      ? { ...entry, workgroupBytes: bytes, workgroup: line.workgroup, ...stats, loop: multiplyingLoop(innermostLoops(texts.get(line.pipeline) ?? "", vendor)) }
      : { ...entry, error: "no executable" };
  });
  return { device, vendor, traits, rows };
}

const tool = positionals[0];
if (!tool || !existsSync(join(tool, "stats.sh")) || !existsSync(join(tool, "node"))) {
  console.error(`skipped: ${tool ?? "(no folder given)"} has no gpu-stats tool that is set up (stats.sh, node)`);
  process.exit(0);
}
const wanted = flags.devices ? flags.devices.split(",") : Object.keys(DEVICES);
for (const device of wanted) {
  const { rows } = measure(tool, device);
  for (const r of rows) {
    if (r.error) console.log(device, r.kernel, r.variant, r.error);
    else {
      const l = r.loop;
      const share = l ? (l.matrix ? `${((l.vector - l.matrix) / l.matrix).toFixed(1)}/mat` : `${((100 * l.multiplyAdds) / l.vector).toFixed(0)}%`) : "-";
      console.log(
        `${device} ${r.kernel} ${r.variant} sg${r.subgroup} wg${r.workgroup} regs ${r.registers} ${r.spills ? "SPILLS " + r.spills : ""} occ ${r.occupancy} ins ${r.instructions} cyc/l ${r.cyclesPerLane.toFixed(1)} wgB ${r.workgroupBytes} loop ${l?.multiplyAdds}+${l?.matrix}/${l?.vector} ${share}  ${Object.entries(r.defines).filter(([, v]) => v).map(([k, v]) => (v === true ? k : `${k}=${v}`)).join(" ")}`,
      );
      if (process.env.OPS) { const c = {}; for (const o of l?.ops ?? []) c[o] = (c[o] ?? 0) + 1; console.log(Object.entries(c).sort((a, b) => b[1] - a[1]).map((o) => o.join(" ")).join(", ")); }
    }
  }
}
