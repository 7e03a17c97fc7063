// The CPU side of a step with the drivers of real GPUs: everything is recorded, validated and submitted, and nothing runs.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reached, table } from "../../bench/shared/table.mjs";

/** One for each driver. */
const DEVICES = { rtx4090: "RTX 4090 (NVK)", "arc-b580": "Arc B580 (ANV)", navi31: "RX 7900 (RADV)" };

/** @returns what `bench/host.mjs --json` says */
function measure(tool, device, root) {
  const cache = mkdtempSync(join(tmpdir(), "gpu-table-"));
  try {
    const run = spawnSync(join(tool, "stats.sh"), [device, "node", "bench/host.mjs", "--json"], {
      encoding: "utf8",
      cwd: root,
      env: { ...process.env, GPU_STATS_FILE: "/dev/null", QDORA_CACHE: cache },
    });
    if (run.status !== 0) throw new Error(`${device}: ${run.error?.message ?? run.stderr}`);
    return JSON.parse(run.stdout.trim().split("\n").at(-1));
  } finally {
    rmSync(cache, { recursive: true });
  }
}

/** @param facts machine, versions and command, each a line @param root the repository */
export function hostText(tool, facts, root) {
  const measured = Object.entries(DEVICES).map(([device, title]) => ({
    title,
    ...measure(tool, device, root),
  }));
  const lines = measured.flatMap(({ title, mostMs, rows }) =>
    rows.map((r) => [
      title,
      r.checkpointing,
      r.length,
      r.dispatches,
      r.hostMs.toFixed(2),
      `<= ${mostMs}`,
      reached(r.hostMs <= mostMs),
    ]),
  );
  return [
    "## The CPU side of a step, by the drivers of real GPUs",
    "",
    ...facts.map((fact) => `- ${fact}`),
    "- the tiny model, DoRA, 1 row; medians of the time in which the process worked and did not wait for the GPU, which is not there: everything",
    "  is recorded, validated and submitted, and nothing runs",
    "",
    table(["driver", "checkpointing", "tokens", "dispatches", "ms", "wanted", "reached"], lines),
  ].join("\n");
}
