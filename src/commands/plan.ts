/** `qdora plan`: what a run would need, to the byte, before anything is downloaded or loaded. Never loads the GPU. */
import type { Command } from "commander";
import { addFinetuneFlags } from "../config/flags.js";
import { resolveFinetuneConfig, type FinetuneConfig } from "../config/resolve.js";
import { parseBytes } from "../config/values.js";
import { QdoraError } from "../formats/error.js";
import { GEOMETRIES } from "../model/geometries.js";
import { nearest } from "../config/suggest.js";
import { planJson, planText } from "../report/plan.js";
import { planModel } from "../train/plan.js";
import type { RemoteShapes } from "../train/prepare.js";
import { readRates } from "../train/rates.js";
import { savings } from "../train/savings.js";
import { findModel } from "./plan_model.js";
import { runCommand } from "./run_command.js";

interface PlanFlags {
  readonly geometry?: string;
  readonly gpu?: string;
  readonly json?: boolean;
  readonly config?: string;
}

function checkGeometry(name: string | undefined): void {
  if (name === undefined || GEOMETRIES.includes(name)) return;
  const near = nearest(name, GEOMETRIES);
  throw new QdoraError(
    "--geometry",
    `no geometry is called "${name}"`,
    near === undefined ? `choose from ${GEOMETRIES.join(", ")}` : `did you mean ${near}?`,
    { exitCode: 2 },
  );
}

function gpuBytes(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseBytes(text);
  if (bytes === undefined)
    throw new QdoraError("--gpu", `got "${text}", expected a size such as 6GB`, undefined, { exitCode: 2 });
  return bytes;
}

async function plan(config: FinetuneConfig, flags: PlanFlags, remote?: RemoteShapes): Promise<number> {
  const { limit, shape, run } = await planModel(config, flags.geometry, remote);
  const open = limit === undefined ? [] : savings(shape, config, run, limit);
  const report = {
    name: flags.geometry ?? config.model_id ?? config.model,
    config,
    shape,
    run,
    limit,
    savings: open,
  };
  const rates = await readRates();
  process.stderr.write(`${planText(report, rates)}\n`);
  if (flags.json === true) process.stdout.write(`${JSON.stringify(planJson(report, rates))}\n`);
  return limit !== undefined && run.plan.totalBytes > limit ? 1 : 0;
}

export function addPlan(program: Command): void {
  const command = program
    .command("plan")
    .description(
      "GPU and host memory of a run, to the byte, without a GPU: from a model folder, from the headers of a model of the Hub, or from a known geometry",
    );
  addFinetuneFlags(command);
  command
    .option("--geometry <name>", `a model that is not here: ${GEOMETRIES.join(", ")}`)
    .option("--gpu <size>", "plan for a card of this size that is not here; like --memory-limit")
    .option("--config <file>", "YAML file with the same keys in snake_case; flags win over it")
    .option("--json", "the plan as one JSON object on stdout")
    .action((flags: PlanFlags & Record<string, unknown>, self: Command) =>
      runCommand(self.optsWithGlobals()["debug"] === true, async () => {
        const { geometry, gpu, json, config: file, ...keys } = flags;
        checkGeometry(geometry);
        const size = gpuBytes(gpu);
        const optional = [
          "data",
          "output_dir",
          ...(geometry === undefined ? [] : (["model"] as const)),
        ] as const;
        const named = await resolveFinetuneConfig(
          { ...keys, ...(size !== undefined && { memory_limit: size }) },
          file,
          optional,
        );
        const shown = { ...(geometry !== undefined && { geometry }), ...(json === true && { json }) };
        if (geometry !== undefined) return plan(named, shown);
        const found = await findModel(named);
        return "exit" in found ? found.exit : plan(found.value.config, shown, found.value.remote);
      }),
    );
}
