/** `qdora generate`: continues a prompt, greedy or sampled, with or without an adapter. */
import { InvalidArgumentError, type Command } from "commander";
import { QdoraError } from "../formats/error.js";
import { generate } from "../generate/generate.js";
import { GENERATE_DEFAULTS } from "../jobs/generate.js";
import { formatRate } from "../report/format.js";
import { warnOfOtherBase } from "./other_base.js";
import { runCommand } from "./run_command.js";
import { localModel } from "./stoppable.js";

interface GenerateFlags {
  readonly model: string;
  readonly revision: string;
  readonly prompt?: string;
  readonly adapter?: string;
  readonly chat?: boolean;
  readonly system?: string;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly quant: "nf4" | "none";
  readonly doubleQuant: boolean;
  readonly device?: string;
  readonly json?: boolean;
}

const number =
  (min: number, max: number, whole: boolean) =>
  (text: string): number => {
    const value = Number(text);
    if (
      text.trim() === "" ||
      !Number.isFinite(value) ||
      value < min ||
      value > max ||
      (whole && !Number.isInteger(value))
    ) {
      throw new InvalidArgumentError(`expected a${whole ? " whole" : ""} number from ${min} to ${max}`);
    }
    return value;
  };

async function readStdin(): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of process.stdin) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}

export function addGenerate(program: Command): void {
  program
    .command("generate")
    .description("continue a prompt with a model, or with a model and an adapter")
    .requiredOption("--model <model>", "model folder, or ORG/NAME of the Hub")
    .option("--revision <name>", "branch, tag or commit of a model of the Hub", "main")
    .option("--prompt <text>", "the prompt; without it, standard input is read")
    .option("--adapter <folder>", "PEFT adapter folder")
    .option("--chat", "wrap the prompt in the model's chat template")
    .option("--system <text>", "system message (with --chat)")
    .option(
      "--max-new-tokens <n>",
      "longest answer",
      number(1, 1 << 20, true),
      GENERATE_DEFAULTS.maxNewTokens,
    )
    .option(
      "--temperature <t>",
      "0 = greedy: always the likeliest token",
      number(0, 100, false),
      GENERATE_DEFAULTS.temperature,
    )
    .option(
      "--top-k <k>",
      "sample among the k likeliest tokens, 0 = all",
      number(0, 1 << 20, true),
      GENERATE_DEFAULTS.topK,
    )
    .option(
      "--top-p <p>",
      "sample among the likeliest tokens that make up p",
      number(0, 1, false),
      GENERATE_DEFAULTS.topP,
    )
    .option("--seed <n>", "of the sampling", number(0, Number.MAX_SAFE_INTEGER, true), GENERATE_DEFAULTS.seed)
    .option("--quant <type>", "nf4 or none: how the base weights are held", quant, GENERATE_DEFAULTS.quant)
    .option("--no-double-quant", "keep the block maxima of NF4 in f32")
    .option("--device <name>", "software, hardware, or a part of the adapter's name")
    .option("--json", "one JSON object with text and token ids on stdout, instead of streamed text")
    .action((flags: GenerateFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, async () => {
        if (flags.system !== undefined && !flags.chat)
          throw new QdoraError("--system", "works with --chat only", "add --chat, or leave --system out", {
            exitCode: 2,
          });
        const sampling = ["--top-k", "--top-p", "--seed"].find((flag) =>
          command.options.some(
            (o) => o.long === flag && command.getOptionValueSource(o.attributeName()) === "cli",
          ),
        );
        if (sampling !== undefined && flags.temperature === 0)
          throw new QdoraError(
            sampling,
            "does nothing at temperature 0, where the likeliest token is taken always",
            "add --temperature, such as 0.7, or leave it out",
            { exitCode: 2 },
          );
        const prompt = flags.prompt ?? (await readStdin());
        if (prompt === "" && !flags.chat)
          throw new QdoraError("prompt", "is empty", "give --prompt TEXT, or text on standard input", {
            exitCode: 2,
          });
        const model = await localModel(flags.model, flags.revision);
        if ("exit" in model) return model.exit;
        await warnOfOtherBase(flags.adapter, model.value.path);
        const result = await generate(
          {
            model: model.value.path,
            adapter: flags.adapter,
            prompt,
            chat: flags.chat === true,
            system: flags.system,
            maxNewTokens: flags.maxNewTokens,
            temperature: flags.temperature,
            topK: flags.topK,
            topP: flags.topP,
            seed: flags.seed,
            quant: flags.quant,
            doubleQuant: flags.doubleQuant,
            device: flags.device,
          },
          (text) => {
            if (!flags.json) process.stdout.write(text);
          },
        );
        if (flags.json)
          process.stdout.write(
            `${JSON.stringify({ text: result.text, ids: result.ids, prompt_ids: result.promptIds })}\n`,
          );
        else process.stdout.write("\n");
        process.stderr.write(
          `${result.promptIds.length} prompt tokens, ${result.ids.length} new tokens, ${formatRate(result.tokensPerSecond)} tok/s\n`,
        );
        return 0;
      }),
    );
}

function quant(text: string): string {
  if (text !== "nf4" && text !== "none") throw new InvalidArgumentError("expected nf4 or none");
  return text;
}
