/** `qdora quantize MODEL OUT`: the NF4 model as a bitsandbytes checkpoint, which loads at disk speed and in transformers. */
import { InvalidArgumentError, Option, type Command } from "commander";
import { parseBytes } from "../config/values.js";
import { MAX_SHARD_BYTES, quantizeModel } from "../model/quantize.js";
import { formatBytes } from "../formats/bytes.js";
import { formatRate, formatSeconds } from "../report/format.js";
import { percentPrinter } from "./percent.js";
import { runCommand } from "./run_command.js";
import { localModel } from "./stoppable.js";
import { untilSignal } from "./until_signal.js";

interface QuantizeFlags {
  readonly revision: string;
  readonly doubleQuant: boolean;
  readonly maxShardSize: number;
  readonly json?: boolean;
}

function size(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined) throw new InvalidArgumentError("expected a size such as 5GB");
  return bytes;
}

async function quantize(
  model: string,
  out: string,
  flags: QuantizeFlags,
  signal: AbortSignal,
): Promise<void> {
  const start = performance.now();
  const made = await quantizeModel(model, out, {
    doubleQuant: flags.doubleQuant,
    maxShardBytes: flags.maxShardSize,
    signal,
    onProgress: percentPrinter("quantising"),
  });
  const seconds = (performance.now() - start) / 1000;
  const megabytesPerSecond = made.sourceBytes / 1e6 / seconds;
  if (flags.json)
    process.stdout.write(
      `${JSON.stringify({
        path: out,
        files: made.files,
        quantized: made.quantized,
        source_bytes: made.sourceBytes,
        bytes: made.bytes,
        seconds: Number(seconds.toFixed(2)),
        megabytes_per_second: Math.round(megabytesPerSecond),
      })}\n`,
    );
  process.stderr.write(
    `${out}: ${made.quantized} linear weights in NF4, ${formatBytes(made.sourceBytes)} -> ${formatBytes(made.bytes)} in ${made.files.length} file${made.files.length === 1 ? "" : "s"}, ${formatSeconds(seconds)} (${formatRate(megabytesPerSecond)} MB/s)\n`,
  );
}

export function addQuantize(program: Command): void {
  program
    .command("quantize")
    .description("write a model with its linear weights in NF4, as a bitsandbytes checkpoint")
    .argument("<model>", "model folder, or ORG/NAME of the Hub, which is pulled")
    .argument("<out>", "folder to make")
    .option("--revision <name>", "branch, tag or commit of a model of the Hub", "main")
    .option("--double-quant", "store the NF4 scales in 8 bits: saves about 0.4 bits per weight", true)
    .option("--no-double-quant", "keep the NF4 scales in f32")
    .addOption(
      new Option("--max-shard-size <size>", "largest file; a tensor is never split")
        .argParser(size)
        .default(MAX_SHARD_BYTES, "5GB"),
    )
    .option("--json", "one JSON object about what was written, on stdout")
    .action((model: string, out: string, flags: QuantizeFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, async () => {
        const found = await localModel(model, flags.revision);
        if ("exit" in found) return found.exit;
        return untilSignal((signal) => quantize(found.value.path, out, flags, signal));
      }),
    );
}
