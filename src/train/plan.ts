/** Plans without data: from a model folder, or from the shapes of a model that is not here. */
import { geometry } from "../model/geometries.js";
import type { LinearFormat } from "../model/tensors.js";
import { fitMemory, memoryLimit, type PlannedRun, type RunShape } from "./memory.js";
import { checkPositions, layoutOf, prepareRun, readModel, type RemoteShapes } from "./prepare.js";
import type { TrainingSettings } from "./settings.js";

export interface ModelPlan {
  /** GPU bytes that may be used. */
  readonly limit: number | undefined;
  readonly shape: RunShape;
  readonly run: PlannedRun;
}

/** How a model of a known geometry would be stored: bf16, quantised as the settings say. */
function geometryStorage(s: TrainingSettings): Pick<RunShape, "linear" | "table" | "head"> {
  const format: LinearFormat =
    s.quant === "nf4" ? { format: "nf4", blockSize: 64, doubleQuant: s.double_quant } : { format: "bf16" };
  return { linear: () => format, table: "bf16", head: "bf16" };
}

/** A run's shape with micro-batches as large as the settings allow. */
export function shapeOf(
  model: Pick<RunShape, "arch" | "linear" | "table" | "head">,
  settings: TrainingSettings,
): RunShape {
  checkPositions(model.arch, settings.max_seq_length, `got ${settings.max_seq_length}`);
  return {
    ...model,
    layout: layoutOf(model.arch, settings),
    capacity: settings.batch_size * settings.max_seq_length,
    positions: settings.max_seq_length,
    evaluates: settings.val_size !== undefined,
  };
}

/** The shape of a run over a model of this geometry. */
export function geometryShape(name: string, settings: TrainingSettings): RunShape {
  const arch = geometry(name);
  return shapeOf({ arch, ...geometryStorage(settings) }, settings);
}

/**
 * @param name a geometry; undefined: `settings.model` is a folder, and with `settings.data` the plan is that of the run
 * @param remote what is known of `settings.model` where it is no folder
 * @throws QdoraError for a model or settings that cannot be trained
 */
export async function planModel(
  settings: TrainingSettings,
  name: string | undefined,
  remote?: RemoteShapes,
): Promise<ModelPlan> {
  const limit = await memoryLimit(settings);
  if (name !== undefined) {
    const shape = geometryShape(name, settings);
    return { limit, shape, run: fitMemory(shape, settings, limit) };
  }
  if (settings.data === "") {
    const shape = shapeOf(remote?.shapes ?? (await readModel(settings)), settings);
    return { limit, shape, run: fitMemory(shape, settings, limit) };
  }
  const run = await prepareRun(settings, undefined, remote);
  return { limit, shape: run.shape, run };
}
