/** `qdora push FOLDER ORG/NAME`: an adapter or a merged model to the Hub, in one commit. Never loads the GPU. */
import type { Command } from "commander";
import { pushFolder } from "../export/push_folder.js";
import { pushPrinter } from "../report/push_progress.js";
import { globs } from "./globs.js";
import { runCommand } from "./run_command.js";
import { stoppable } from "./stoppable.js";

interface PushFlags {
  readonly revision: string;
  readonly private?: boolean;
  readonly message?: string;
  readonly baseModel?: string;
  readonly include?: readonly string[];
  readonly json?: boolean;
}

export function addPush(program: Command): void {
  program
    .command("push")
    .description("upload an adapter or a merged model to the Hub, with a model card, in one commit")
    .argument("<folder>", "output_dir of a finished run, or the folder of a merged model")
    .argument("<name>", "repository, ORG/NAME; made if it does not exist")
    .option("--private", "make the repository private")
    .option("--revision <branch>", "branch to commit to; made if it does not exist", "main")
    .option("--message <text>", "the commit's message")
    .option("--base-model <name>", "the base model's name on the Hub, ORG/NAME, or none")
    .option("--include <globs>", "upload these files, too, e.g. 'metrics.jsonl,report.html'", globs)
    .option("--json", 'one JSON object on stdout: {"url","commit"}')
    .action((folder: string, name: string, flags: PushFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, async () => {
        const print = pushPrinter(process.stderr);
        let afterStop = "nothing was committed";
        const pushed = await stoppable(
          (signal) =>
            pushFolder(folder, name, {
              private: flags.private === true,
              revision: flags.revision,
              message: flags.message,
              baseModel: flags.baseModel,
              include: flags.include,
              signal,
              listen: (event) => {
                if (event.type === "committing")
                  afterStop = "the commit was on its way: look at the repository's page";
                if (event.type === "late") afterStop = "too late, the commit had been made";
                print(event);
              },
            }),
          () => afterStop,
        );
        if ("exit" in pushed) return pushed.exit;
        if (flags.json) process.stdout.write(`${JSON.stringify(pushed.value)}\n`);
        else process.stderr.write(`commit ${pushed.value.commit}\n${pushed.value.url}\n`);
        return 0;
      }),
    );
}
