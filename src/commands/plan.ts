/** `qdora plan`: what a run would need, to the byte, before anything is downloaded or loaded. Never loads the GPU. */
import type { Command } from "commander";
import { addFinetuneFlags } from "../config/flags.js";
import { KEY_NAMES } from "../config/schema.js";
import { plannedModel, planReport, resolvePlan, type PlannedModel } from "../jobs/plan.js";
import { GEOMETRIES } from "../model/geometries.js";
import { planJson, planText } from "../report/plan.js";
import { pullPrinter } from "../report/pull_progress.js";
import { readRates } from "../train/rates.js";
import { runCommand } from "./run_command.js";
import { stoppable } from "./stoppable.js";

interface PlanFlags {
  readonly geometry?: string;
  readonly gpu?: string;
  readonly json?: boolean;
  readonly config?: string;
}

async function show(
  { config, remote }: PlannedModel,
  geometry: string | undefined,
  json: boolean,
): Promise<number> {
  const report = await planReport(config, geometry, remote);
  const rates = await readRates();
  process.stderr.write(`${planText(report, rates)}\n`);
  if (json) process.stdout.write(`${JSON.stringify(planJson(report, rates))}\n`);
  return report.limit !== undefined && report.run.plan.totalBytes > report.limit ? 1 : 0;
}

export function addPlan(program: Command): void {
  const command = program
    .command("plan")
    .description(
      "GPU and host memory of a run, to the byte, without a GPU: from a model folder, from the headers of a model of the Hub, or from a known geometry",
    );
  // A plan goes on from nothing, and is dry by itself.
  const asked = KEY_NAMES.filter((name) => name !== "resume" && name !== "dry_run");
  addFinetuneFlags(command, asked, false);
  command
    .option("--geometry <name>", `a model that is not here: ${GEOMETRIES.join(", ")}`)
    .option("--gpu <size>", "plan for a card of this size that is not here; like --memory-limit")
    .option("--config <file>", "YAML file with the same keys in snake_case; flags win over it")
    .option("--json", "the plan as one JSON object on stdout")
    .action((flags: PlanFlags & Record<string, unknown>, self: Command) =>
      runCommand(self.optsWithGlobals()["debug"] === true, async () => {
        const { json, config: file, ...keys } = flags;
        const { geometry } = keys;
        const named = await resolvePlan(keys, file);
        if (geometry !== undefined) return show({ config: named }, geometry, json === true);
        const listen = pullPrinter(process.stderr);
        const found = await stoppable((signal) => plannedModel(named, { signal, listen }));
        return "exit" in found ? found.exit : show(found.value, undefined, json === true);
      }),
    );
}
