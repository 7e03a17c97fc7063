/** `qdora pull ORG/NAME`: a model's files from the Hub into the cache that Python's tools share. Never loads the GPU. */
import type { Command } from "commander";
import { pull } from "../hub/pull.js";
import { pullPrinter } from "../report/pull_progress.js";
import { globs } from "./globs.js";
import { runCommand } from "./run_command.js";
import { stoppable } from "./stoppable.js";

interface PullFlags {
  readonly revision: string;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
  readonly dataset?: boolean;
  readonly json?: boolean;
}

export function addPull(program: Command): void {
  program
    .command("pull")
    .description(
      "download a model from the Hub: the files that training needs, checked, into the shared cache",
    )
    .argument("<name>", "repository, ORG/NAME")
    .option("--revision <name>", "branch, tag or commit", "main")
    .option("--include <globs>", "take these files instead, e.g. '*.json,*.safetensors'", globs)
    .option("--exclude <globs>", "leave these files out", globs)
    .option("--dataset", "the name is a data set's; by default its tables are taken")
    .option("--json", 'one JSON object on stdout: {"path","commit"}')
    .action((name: string, flags: PullFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, async () => {
        const pulled = await stoppable((signal) =>
          pull(name, {
            type: flags.dataset === true ? "dataset" : "model",
            revision: flags.revision,
            include: flags.include,
            exclude: flags.exclude,
            signal,
            listen: pullPrinter(process.stderr),
          }),
        );
        if ("exit" in pulled) return pulled.exit;
        if (flags.json) process.stdout.write(`${JSON.stringify(pulled.value)}\n`);
        else process.stderr.write(`folder: ${pulled.value.path}\n`);
        return 0;
      }),
    );
}
