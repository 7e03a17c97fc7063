#!/usr/bin/env node
/** The command line: one file per command in commands/. */
import { Command, CommanderError } from "commander";
import { flagName } from "./config/schema.js";
import { keyElsewhere } from "./config/suggest.js";
import { addBench } from "./commands/bench.js";
import { addData } from "./commands/data.js";
import { addDoctor } from "./commands/doctor.js";
import { addEval } from "./commands/eval.js";
import { addExport } from "./commands/export.js";
import { addFinetune } from "./commands/finetune.js";
import { addGenerate } from "./commands/generate.js";
import { addInspect } from "./commands/inspect.js";
import { addMerge } from "./commands/merge.js";
import { addPlan } from "./commands/plan.js";
import { addPush } from "./commands/push.js";
import { addQuantize } from "./commands/quantize.js";
import { addPull } from "./commands/pull.js";
import { version } from "./formats/version.js";

/** Commander's complaint in the form of all errors. */
const usageError =
  (help: string, options: Command["options"] = []) =>
  (text: string, write: (text: string) => void): void => {
    const [fact = "", suggestion] = text
      .replace(/^error: /, "")
      .trim()
      .split("\n");
    const key = keyElsewhere(/^unknown option '--([^']+)'/.exec(fact)?.[1] ?? "");
    const flag = options.find(({ long }) => key !== undefined && long === flagName(key))?.long;
    const hint =
      (flag && `did you mean ${flag}?`) ??
      suggestion?.replace(/^\(Did (.*)\)$/, "did $1") ??
      `\`${help} --help\` lists what there is`;
    write(`error: usage: ${fact}\nhint: ${hint}\n`);
  };

const program = new Command("qdora")
  .description("QDoRA fine-tuning of large language models on any GPU, through WebGPU")
  .version(version)
  .option("--debug", "print stack traces")
  .showSuggestionAfterError()
  .configureOutput({ outputError: usageError("qdora") })
  .exitOverride();

const COMMANDS = [
  addFinetune,
  addPull,
  addPlan,
  addData,
  addEval,
  addGenerate,
  addMerge,
  addExport,
  addPush,
  addQuantize,
  addInspect,
  addDoctor,
  addBench,
];
for (const add of COMMANDS) add(program);
for (const command of program.commands) {
  command
    .exitOverride()
    .configureOutput({ outputError: usageError(`qdora ${command.name()}`, command.options) });
}
// A reader of results that has gone (`qdora … | head`) ends the program, without a stack trace; one of messages does not end a run.
process.stdout.on("error", () => process.exit(1));
process.stderr.on("error", () => undefined);

try {
  await program.parseAsync();
} catch (error) {
  // Help and version end with 0; everything else that commander itself refuses is wrong usage.
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
