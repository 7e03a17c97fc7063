/** `qdora merge`: adapter into base, a full-precision model folder out. */
import { InvalidArgumentError, Option, type Command } from "commander";
import { baseWords } from "../export/model_card.js";
import { mergeAdapter, type MergeResult } from "../export/merged_folder.js";
import { QdoraError } from "../formats/error.js";
import { comparisonPrompts, compareLogits, type LogitComparison } from "../generate/compare.js";
import { chooseBase } from "../config/trained_base.js";
import { parseBytes } from "../config/values.js";
import { readArchitecture } from "../model/config.js";
import { MAX_SHARD_BYTES } from "../model/quantize.js";
import type { Base, FloatDtype } from "../model/merged.js";
import { formatBytes } from "../formats/bytes.js";
import { baseOption } from "./base_option.js";
import { localModel } from "./stoppable.js";
import { warnOfOtherBase } from "./other_base.js";
import { runCommand } from "./run_command.js";
import { untilSignal } from "./until_signal.js";
import { percentPrinter } from "./percent.js";

interface MergeFlags {
  readonly model: string;
  readonly revision: string;
  readonly adapter: string;
  readonly outputDir: string;
  readonly base?: Base["kind"];
  readonly dtype?: "bf16" | "f16" | "f32";
  readonly quant: "none" | "nf4";
  readonly doubleQuant: boolean;
  readonly maxShardSize: number;
  readonly verify?: boolean;
  readonly device?: string;
  readonly json?: boolean;
}

const DTYPES: Readonly<Record<"bf16" | "f16" | "f32", FloatDtype>> = { bf16: "BF16", f16: "F16", f32: "F32" };

/** How far rounding to the type moves logits at most, as a part of the largest logit (at least 1). */
const VERIFY_LIMITS: Readonly<Record<FloatDtype, number>> = { F32: 1e-3, F16: 1e-2, BF16: 5e-2 };

/** @throws QdoraError if the merged model is another one */
async function verify(
  flags: MergeFlags,
  base: Base,
  folder: string,
  dtypes: readonly FloatDtype[],
): Promise<LogitComparison> {
  const isNf4 = base.kind === "nf4" || (await readArchitecture(flags.model)).quantized;
  const result = await compareLogits(
    {
      model: flags.model,
      adapter: flags.adapter,
      quant: isNf4 ? "nf4" : "none",
      doubleQuant: base.kind === "nf4" && base.doubleQuant,
      device: flags.device,
    },
    { model: folder, quant: flags.quant, doubleQuant: flags.doubleQuant, device: flags.device },
    await comparisonPrompts(flags.model),
  );
  // Four bits move logits by as much as they do: there is no telling it from an error.
  if (flags.quant === "nf4") return result;
  const limit = Math.max(...dtypes.map((t) => VERIFY_LIMITS[t])) * Math.max(1, result.largestLogit);
  if (result.largestDifference > limit)
    throw new QdoraError(
      "verify",
      `logits of the merged model differ by ${result.largestDifference.toPrecision(3)} (limit ${limit.toPrecision(3)}); nothing was written`,
      "merge with --dtype f32, or without --verify",
    );
  return result;
}

function report(flags: MergeFlags, result: MergeResult, comparison: LogitComparison | undefined): void {
  process.stderr.write(
    `merged: ${result.outputDir}, ${result.mergedModules} modules, ${result.files.length} file${result.files.length === 1 ? "" : "s"}, ${formatBytes(result.totalBytes)}, ${result.dtypes.join(", ")}${flags.quant === "nf4" ? ", linear weights NF4" : ""}\n`,
  );
  if (result.unused.length > 0)
    process.stderr.write(
      `left out: ${result.unused.length} tensors that the model does not use, such as ${result.unused[0]}\n`,
    );
  if (!flags.json) return;
  const verified = comparison && {
    positions: comparison.positions,
    largest_difference: comparison.largestDifference,
    largest_logit: comparison.largestLogit,
    same_choice: comparison.sameChoice,
  };
  process.stdout.write(
    `${JSON.stringify({ path: result.outputDir, files: result.files, bytes: result.totalBytes, modules: result.mergedModules, dtypes: result.dtypes, quant: flags.quant, verify: verified ?? null })}\n`,
  );
}

async function merge(flags: MergeFlags, baseName: string | undefined, signal: AbortSignal): Promise<void> {
  await warnOfOtherBase(flags.adapter, flags.model);
  const { base, reason } = await chooseBase(flags.model, flags.adapter, flags.base);
  const { quantized } = await readArchitecture(flags.model);
  process.stderr.write(`base: ${baseWords(base, quantized)} (${reason})\n`);
  let comparison: LogitComparison | undefined;
  const percent = percentPrinter("merging");
  const dtype = flags.dtype && DTYPES[flags.dtype];
  const result = await mergeAdapter(
    {
      model: flags.model,
      baseName,
      adapter: flags.adapter,
      outputDir: flags.outputDir,
      base,
      dtype,
      requantize: flags.quant === "nf4" ? { doubleQuant: flags.doubleQuant } : undefined,
      maxShardBytes: flags.maxShardSize,
      signal,
    },
    ({ bytes, totalBytes }) => percent(bytes, totalBytes),
    flags.verify === true
      ? async (folder, dtypes) => {
          signal.throwIfAborted();
          comparison = await verify(flags, base, folder, dtypes);
          const { largestDifference, largestLogit, positions, sameChoice } = comparison;
          process.stderr.write(
            `verify: logits differ by ${largestDifference.toPrecision(3)} at most (they reach ${largestLogit.toFixed(1)}); the likeliest token is the same at ${sameChoice} of ${positions} positions\n`,
          );
        }
      : undefined,
  );
  report(flags, result, comparison);
}

function size(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined) throw new InvalidArgumentError("expected a size such as 5GB or 800MiB");
  return bytes;
}

export function addMerge(program: Command): void {
  program
    .command("merge")
    .description("fold an adapter into its base: a full-precision model folder that needs no adapter")
    .requiredOption("--model <model>", "folder of the base model, or ORG/NAME of the Hub")
    .option("--revision <name>", "branch, tag or commit of a model of the Hub", "main")
    .requiredOption("--adapter <folder>", "PEFT adapter folder")
    .requiredOption("--output-dir <folder>", "new folder for the merged model")
    .addOption(baseOption())
    .addOption(
      new Option(
        "--dtype <type>",
        "type of all weights. Default: each as it is stored; 16 bits round away a part of what was learnt, f32 keeps all",
      ).choices(["bf16", "f16", "f32"]),
    )
    .addOption(
      new Option(
        "--quant <type>",
        "nf4 quantises the merged linear weights again (bitsandbytes' layout): 3.5x smaller than 16 bits, less exact than base and adapter",
      )
        .choices(["none", "nf4"])
        .default("none"),
    )
    .option("--no-double-quant", "with --quant nf4: keep the NF4 scales in f32")
    .addOption(
      new Option("--max-shard-size <size>", "data in one safetensors file")
        .argParser(size)
        .default(MAX_SHARD_BYTES, "5GB"),
    )
    .option("--verify", "compare logits of base and adapter with those of the merged model, on the GPU")
    .option("--device <name>", "with --verify: software, hardware, or a part of the GPU's name")
    .option("--json", "one JSON object about the result on stdout")
    .action((flags: MergeFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, async () => {
        if (flags.device !== undefined && flags.verify !== true)
          throw new QdoraError(
            "--device",
            "works with --verify only",
            "add --verify, or leave --device out",
            {
              exitCode: 2,
            },
          );
        if (!flags.doubleQuant && flags.quant !== "nf4")
          throw new QdoraError(
            "--no-double-quant",
            "works with --quant nf4 only",
            "add --quant nf4, or leave it out",
            {
              exitCode: 2,
            },
          );
        const model = await localModel(flags.model, flags.revision);
        if ("exit" in model) return model.exit;
        const { path, id } = model.value;
        return untilSignal((signal) => merge({ ...flags, model: path }, id, signal));
      }),
    );
}
