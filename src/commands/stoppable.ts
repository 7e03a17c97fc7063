/** Downloads and uploads under SIGINT and SIGTERM: the first ends them and keeps what has come, the second ends at once. */
import { isHubName } from "../data/hub_source.js";
import { parseSources } from "../data/sources.js";
import { pullDataset } from "../hub/pull.js";
import { modelFolder, type ModelFolder } from "../hub/model_folder.js";
import { pullPrinter } from "../report/pull_progress.js";
import { SIGNAL_EXIT } from "./run_command.js";

/** What came of it, or the exit code of the signal that ended it. */
export type Stoppable<T> = { readonly value: T } | { readonly exit: number };

/** @param afterStop what a person should know when it was stopped */
export async function stoppable<T>(
  body: (signal: AbortSignal) => Promise<T>,
  afterStop: () => string = () => "run again to go on from here",
): Promise<Stoppable<T>> {
  const controller = new AbortController();
  let name: NodeJS.Signals | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    if (name !== undefined) process.exit(SIGNAL_EXIT[signal] ?? 1);
    name = signal;
    controller.abort(new Error(signal));
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  try {
    return { value: await body(controller.signal) };
  } catch (error) {
    if (name === undefined) throw error;
    process.stderr.write(`\n${name}: stopped; ${afterStop()}\n`);
    return { exit: SIGNAL_EXIT[name] ?? 1 };
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}

/** The folder of a model that a command names; a model of the Hub is pulled, with progress on stderr. */
export const localModel = (name: string, revision: string): Promise<Stoppable<ModelFolder>> =>
  stoppable((signal) => modelFolder(name, { revision, signal, listen: pullPrinter(process.stderr) }));

/** Pulls the data sets of the Hub that `data` names into the cache, with progress on stderr; readers find them there. */
export const localData = (data: string | readonly string[]): Promise<Stoppable<void>> =>
  stoppable(async (signal) => {
    for (const { path } of parseSources(data)) {
      if (!isHubName(path)) continue;
      process.stderr.write(`data: no file ${path}, so the data set ${path} of the Hub\n`);
      await pullDataset(path, { signal, listen: pullPrinter(process.stderr) });
    }
  });
