/** Puts a checkpoint's state into a run that is being prepared and opened. */
import { join } from "node:path";
import { adapterFromPeft } from "../adapter/peft.js";
import { QdoraError } from "../formats/error.js";
import { readPeftAdapter } from "../formats/peft.js";
import { callClass, type VariantTable } from "../program/tuner.js";
import { OPTIMIZER_FILE, type SavedRun } from "./checkpoint.js";
import { checkpointName } from "./checkpoint_folder.js";
import type { PreparedRun } from "./prepare.js";
import type { TrainingSession } from "./session.js";
import { restoreMoments, writeFactors } from "./trained_state.js";

/** Before anything is loaded: the run must reach beyond the checkpoint, and its adapter must be of the same form. @throws QdoraError */
export async function checkTarget(saved: SavedRun, run: PreparedRun): Promise<void> {
  const { step } = saved.position;
  if (run.totalSteps < step)
    throw new QdoraError(
      run.settings.max_steps === undefined ? "epochs" : "max_steps",
      `the run would end after step ${run.totalSteps}, ${checkpointName(step)} is beyond it`,
      "raise max_steps or epochs, or delete the checkpoints after the step to go on from",
      { exitCode: 2 },
    );
  adapterFromPeft(run.layout, await readPeftAdapter(saved.folder), saved.folder);
}

/** The kernel variants to go on with: the checkpoint's, so that the bits stay the same; undefined = choose anew. */
export function resumedVariants(
  saved: SavedRun,
  run: PreparedRun,
  gpu: string,
  say: (text: string) => void,
): VariantTable | undefined {
  if (saved.state.gpu !== gpu) {
    say(`resume: the checkpoint was trained on ${saved.state.gpu}; on this GPU the last digits may differ`);
    return undefined;
  }
  const isComplete = run.programs.every((p) =>
    p.calls.every((call) => call.kernel.transfer || saved.variants.has(callClass(call))),
  );
  if (!isComplete)
    say("resume: other sizes than before, kernels are chosen anew; the last digits may differ");
  return isComplete ? saved.variants : undefined;
}

/** Adapter and moments, bit for bit. */
export async function restoreSession(saved: SavedRun, session: TrainingSession): Promise<void> {
  const { run, memory, executor } = session;
  const values = adapterFromPeft(run.layout, await readPeftAdapter(saved.folder), saved.folder);
  await writeFactors(memory, run.layout, values);
  await restoreMoments(memory, run.layout, join(saved.folder, OPTIMIZER_FILE));
  session.adapterWasWritten();
  await executor.idle();
}
