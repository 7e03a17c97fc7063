/** `qdora quantize MODEL OUT`: the NF4 model as a bitsandbytes checkpoint, which loads at disk speed and in transformers. */
import { InvalidArgumentError, type Command } from "commander";
import { parseBytes } from "../config/values.js";
import { MAX_SHARD_BYTES, quantizeModel } from "../model/quantize.js";
import { formatBytes, formatRate, formatSeconds } from "../report/format.js";
import { runCommand, SIGNAL_EXIT } from "./run_command.js";

interface QuantizeFlags {
  readonly doubleQuant: boolean;
  readonly maxShardSize: number;
  readonly json?: boolean;
}

function size(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined) throw new InvalidArgumentError("expected a size such as 5GB");
  return bytes;
}

/** Rewrites one line on a terminal; silent elsewhere. */
function progressLine(): (bytes: number, total: number) => void {
  let percent = -1;
  return (bytes, total) => {
    const now = Math.floor((bytes / total) * 100);
    if (!process.stderr.isTTY || now === percent) return;
    percent = now;
    process.stderr.write(`\r\u001b[2Kquantising: ${percent} % of ${formatBytes(total)}`);
  };
}

async function quantize(
  model: string,
  out: string,
  flags: QuantizeFlags,
  signal: AbortSignal,
): Promise<void> {
  const start = performance.now();
  try {
    const made = await quantizeModel(model, out, {
      doubleQuant: flags.doubleQuant,
      maxShardBytes: flags.maxShardSize,
      signal,
      onProgress: progressLine(),
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
    if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
    process.stderr.write(
      `${out}: ${made.quantized} linear weights in NF4, ${formatBytes(made.sourceBytes)} -> ${formatBytes(made.bytes)} in ${made.files.length} file${made.files.length === 1 ? "" : "s"}, ${formatSeconds(seconds)} (${formatRate(megabytesPerSecond)} MB/s)\n`,
    );
  } catch (error) {
    if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
    throw error;
  }
}

/** SIGINT and SIGTERM end the work after the piece in hand; the temporary folder is removed. */
async function untilSignal(body: (signal: AbortSignal) => Promise<void>): Promise<number | void> {
  const controller = new AbortController();
  let name: NodeJS.Signals | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    name = signal;
    controller.abort();
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  try {
    await body(controller.signal);
    return;
  } catch (error) {
    if (name === undefined || error !== controller.signal.reason) throw error;
    process.stderr.write(`error: ${name}: stopped, nothing was written\n`);
    return SIGNAL_EXIT[name] ?? 1;
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}

export function addQuantize(program: Command): void {
  program
    .command("quantize")
    .description("write a model with its linear weights in NF4, as a bitsandbytes checkpoint")
    .argument("<model>", "model folder")
    .argument("<out>", "folder to make")
    .option("--double-quant", "store the NF4 scales in 8 bits: saves about 0.4 bits per weight", true)
    .option("--no-double-quant", "keep the NF4 scales in f32")
    .option(
      "--max-shard-size <size>",
      "largest file, such as 5GB; a tensor is never split",
      size,
      MAX_SHARD_BYTES,
    )
    .option("--json", "one JSON object about what was written, on stdout")
    .action((model: string, out: string, flags: QuantizeFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, () =>
        untilSignal((signal) => quantize(model, out, flags, signal)),
      ),
    );
}
