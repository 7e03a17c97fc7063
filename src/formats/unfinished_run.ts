/** The output folder of a finetune run that did not finish: checkpoints, and no adapter beside them. Reads names only. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { QdoraError } from "./error.js";

/**
 * @param use what else can be done with the newest checkpoint's folder, for the hint
 * @throws QdoraError if the folder holds checkpoints and not the file that only a finished run has
 */
export async function refuseUnfinished(
  folder: string,
  finishedFile: string,
  use: (checkpoint: string) => string,
): Promise<void> {
  // A folder that is missing is named by whoever reads its files.
  const names = await readdir(folder).catch((): string[] => []);
  if (names.includes(finishedFile)) return;
  const steps = names.flatMap((name) => /^checkpoint-(\d+)$/.exec(name)?.[1] ?? []).map(Number);
  if (steps.length === 0) return;
  const newest = `checkpoint-${Math.max(...steps)}`;
  throw new QdoraError(
    folder,
    `the run is not finished: there are checkpoints up to ${newest}, but no adapter`,
    `finish it with \`qdora finetune … --resume\`, or ${use(join(folder, newest))}`,
  );
}
