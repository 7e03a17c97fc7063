/** `qdora inspect DIR…`: what is in a model or adapter folder, and is it sound. Headers and config only; never loads the GPU. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { openCheckpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import { readPeftConfig, adapterTensorHeaders } from "../formats/peft.js";
import { readArchitecture, type Architecture } from "../model/config.js";
import { checkModelHeaders } from "../model/load.js";
import { formatBytes } from "../formats/bytes.js";
import { reportError, runCommand } from "./run_command.js";

/** A readable summary of a sound folder. @throws QdoraError naming what is wrong */
async function inspectFolder(path: string): Promise<readonly string[]> {
  if (!existsSync(path)) throw new QdoraError(path, "does not exist", "give a model or adapter folder");
  if (!statSync(path).isDirectory())
    throw new QdoraError(
      path,
      "is not a folder",
      "give the folder that holds config.json or adapter_config.json",
    );
  if (existsSync(join(path, "adapter_config.json"))) return inspectAdapter(path);
  if (existsSync(join(path, "config.json"))) return inspectModel(path);
  throw new QdoraError(
    path,
    "holds neither config.json nor adapter_config.json",
    "give a model or adapter folder",
  );
}

async function inspectModel(path: string): Promise<readonly string[]> {
  const arch = await readArchitecture(path);
  const checkpoint = await openCheckpoint(path);
  try {
    await checkModelHeaders(checkpoint, arch);
    const bytes = [...checkpoint.tensors.values()].reduce((sum, t) => sum + t.byteLength, 0);
    const dtypes = [...new Set([...checkpoint.tensors.values()].map((t) => t.dtype))].toSorted();
    return [
      `model ${arch.modelType}: ${arch.layers} layers, hidden ${arch.hidden}, feed-forward ${arch.feedForward}, vocabulary ${arch.vocab}`,
      `attention: ${arch.heads} heads, ${arch.kvHeads} key-value heads, head dim ${arch.headDim}, ${windowWords(arch)}`,
      `rope ${arch.rope.type}, theta ${arch.rope.theta}, up to ${arch.maxPositions} positions`,
      `${arch.tied ? "tied" : "untied"} embeddings${arch.qkvBias ? ", q/k/v biases" : ""}${arch.qkNorm ? ", q/k norm" : ""}${arch.quantized ? ", ready-made NF4" : ""}`,
      `${checkpoint.tensors.size} tensors in ${checkpoint.files.length} file${checkpoint.files.length === 1 ? "" : "s"}, ${formatBytes(bytes)}, ${dtypes.join(", ")}`,
    ];
  } finally {
    await checkpoint.close();
  }
}

function windowWords(arch: Architecture): string {
  const sliding = arch.windows.filter((w) => w > 0);
  return sliding.length === 0
    ? "full"
    : `sliding window ${sliding[0]} in ${sliding.length} of ${arch.layers} layers`;
}

async function inspectAdapter(path: string): Promise<readonly string[]> {
  const config = await readPeftConfig(path);
  const tensors = await adapterTensorHeaders(path);
  const count = [...tensors.values()].reduce((sum, t) => sum + t.shape.reduce((a, b) => a * b, 1), 0);
  const method = `${config.use_rslora ? "rank-stabilised " : ""}${config.use_dora ? "DoRA" : "LoRA"}`;
  const targets =
    typeof config.target_modules === "string" ? config.target_modules : config.target_modules.join(", ");
  return [
    `adapter ${method}: rank ${config.r}, alpha ${config.lora_alpha}, for ${config.base_model_name_or_path || "a base that is not named"}`,
    `targets ${targets}`,
    `${tensors.size} tensors, ${count.toLocaleString("en-US")} parameters`,
  ];
}

export function addInspect(program: Command): void {
  program
    .command("inspect")
    .description(
      "say what is in model or adapter folders, and whether they are sound (headers and config only)",
    )
    .argument("<dir...>", "model or adapter folders")
    .option("--json", 'one JSON line per folder: {"path","ok","error"}')
    .action((dirs: readonly string[], options: { json?: boolean }, command: Command) => {
      const debug = command.optsWithGlobals()["debug"] === true;
      return runCommand(debug, async () => {
        let failed = 0;
        for (const path of dirs) {
          try {
            const summary = await inspectFolder(path);
            if (options.json)
              process.stdout.write(`${JSON.stringify({ path, ok: true, error: null, summary })}\n`);
            else process.stderr.write(`${path}\n${summary.map((line) => `  ${line}\n`).join("")}`);
          } catch (error) {
            failed++;
            if (options.json) {
              const message = error instanceof Error ? error.message : String(error);
              process.stdout.write(`${JSON.stringify({ path, ok: false, error: message })}\n`);
            } else {
              process.stderr.write(`${path}\n`);
              reportError(error, debug);
            }
          }
        }
        return failed === 0 ? 0 : 1;
      });
    });
}
