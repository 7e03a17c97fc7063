/** `qdora export`: a model, merged before or on the way, as a GGUF file for llama.cpp. */
import { basename, resolve } from "node:path";
import { Option, type Command } from "commander";
import { chooseBase } from "../config/trained_base.js";
import { exportGguf } from "../export/gguf_file.js";
import type { GgufType } from "../export/gguf_tensors.js";
import { baseWords } from "../export/model_card.js";
import { readArchitecture } from "../model/config.js";
import type { Base } from "../model/merged.js";
import { formatBytes } from "../formats/bytes.js";
import { baseOption } from "./base_option.js";
import { percentPrinter } from "./percent.js";
import { warnOfOtherBase } from "./other_base.js";
import { runCommand } from "./run_command.js";
import { localModel } from "./stoppable.js";
import { untilSignal } from "./until_signal.js";

interface ExportFlags {
  readonly gguf: GgufType;
  readonly model: string;
  readonly revision: string;
  readonly adapter?: string;
  readonly base?: Base["kind"];
  readonly overwrite?: boolean;
  readonly json?: boolean;
}

async function exportModel(
  output: string,
  flags: ExportFlags,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  await warnOfOtherBase(flags.adapter, flags.model);
  const { base, reason } = await chooseBase(flags.model, flags.adapter, flags.base);
  if (flags.adapter !== undefined) {
    const { quantized } = await readArchitecture(flags.model);
    process.stderr.write(`base: ${baseWords(base, quantized)} (${reason})\n`);
  }
  const percent = percentPrinter("writing");
  const result = await exportGguf(
    {
      model: flags.model,
      adapter: flags.adapter,
      base,
      output,
      name,
      type: flags.gguf,
      overwrite: flags.overwrite === true,
      signal,
    },
    ({ bytes, totalBytes }) => percent(bytes, totalBytes),
  );
  process.stderr.write(
    `exported: ${output}, ${result.tensors} tensors, ${formatBytes(result.bytes)}, ${flags.gguf}\n`,
  );
  if (result.context < result.modelContext)
    process.stderr.write(
      `note: context_length is ${result.context}, the model's sliding window: llama.cpp has none for this model type\n`,
    );
  if (flags.json)
    process.stdout.write(
      `${JSON.stringify({ path: output, bytes: result.bytes, tensors: result.tensors, type: flags.gguf, context_length: result.context })}\n`,
    );
}

export function addExport(program: Command): void {
  program
    .command("export")
    .description("write a model as a GGUF file that llama.cpp runs")
    .argument("<file>", "the file to write, for instance model.gguf")
    .addOption(
      new Option(
        "--gguf <type>",
        "type of the weights: f16 is near exact, q8_0 takes half of it, q4_0 a quarter (embedding and head stay q8_0)",
      )
        .choices(["f16", "q8_0", "q4_0"])
        .makeOptionMandatory(),
    )
    .requiredOption(
      "--model <model>",
      "a merged model, or the base of --adapter: a folder, or ORG/NAME of the Hub",
    )
    .option("--revision <name>", "branch, tag or commit of a model of the Hub", "main")
    .option("--adapter <folder>", "PEFT adapter folder; it is merged on the way")
    .addOption(baseOption())
    .option("--overwrite", "replace the file if it exists")
    .option("--json", "one JSON object about the result on stdout")
    .action((output: string, flags: ExportFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, async () => {
        const model = await localModel(flags.model, flags.revision);
        if ("exit" in model) return model.exit;
        const { path, id } = model.value;
        const name = basename(id ?? resolve(path));
        return untilSignal((signal) => exportModel(output, { ...flags, model: path }, name, signal));
      }),
    );
}
