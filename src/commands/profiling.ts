/** What `finetune --profile` and `--profile-trace` ask for, and what they print and write at the end. */
import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { chromeTrace, profileTable } from "../report/profile.js";
import type { TrainingResult } from "../train/trainer.js";

/** What is measured beside the training. */
export interface Profiling {
  readonly profile: boolean;
  /** Where the trace goes. */
  readonly trace: string | undefined;
}

/** Prints the table, and writes the trace if there is to be one. */
export async function reportProfile(
  result: Pick<TrainingResult, "profile">,
  { profile, trace }: Profiling,
): Promise<void> {
  if (!profile) return;
  if (!result.profile) {
    process.stderr.write("profile: no step was left to run, so nothing was timed\n");
    return;
  }
  process.stderr.write(`${profileTable(result.profile)}\n`);
  if (trace === undefined) return;
  await writeFileAtomic(trace, chromeTrace(result.profile));
  process.stderr.write(`trace: ${trace} (open it in chrome://tracing or ui.perfetto.dev)\n`);
}

/** The trace's path, if its folder is there: found before the run, not after it. */
async function traceFile(path: unknown): Promise<string | undefined> {
  if (typeof path !== "string") return undefined;
  const [folder, file] = [dirname(path), path].map((p) => stat(p).catch(() => undefined));
  const problem = !(await folder)?.isDirectory()
    ? "its folder is not there"
    : (await file)?.isDirectory()
      ? "is a folder"
      : undefined;
  if (problem === undefined) return path;
  throw new QdoraError("--profile-trace", `${path}: ${problem}`, "name a file in a folder that exists", {
    exitCode: 2,
  });
}

/** @param path of the trace, if a flag names one: it asks for the profile too */
export async function checkProfiling(profile: boolean, path: unknown): Promise<Profiling> {
  const trace = await traceFile(path);
  return { profile: profile || trace !== undefined, trace };
}
