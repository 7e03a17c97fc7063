/**
 * Whether a run's products and attention may round their inputs to f16: what `compute_dtype` says, and under `auto` what the GPU
 * gains by. Plans do not depend on it: it is an option of calls, and takes no memory.
 */
import { openGpu, type Gpu } from "../gpu/device.js";
import type { AdapterTraits } from "../gpu/traits.js";
import { hasHalfMatrices } from "../kernels/product_matrix.js";
import { openTrusted } from "../kernels/trusted_gpu.js";
import type { SavedRun } from "./checkpoint.js";
import { planRun, type PlannedRun, type RunShape } from "./memory.js";
import type { TrainingSettings } from "./settings.js";

type ComputeDtype = TrainingSettings["compute_dtype"];

/** The GPU of a run. Where the run may use matrices they have been tried, and what is wrong is told and left out. */
export async function openRunGpu(
  { device, compute_dtype }: Pick<TrainingSettings, "device" | "compute_dtype">,
  say: (line: string) => void,
): Promise<Gpu> {
  if (compute_dtype === "f32") return openGpu({ adapter: device });
  const { gpu } = await openTrusted({ adapter: device }, say);
  return gpu;
}

/** Without a checkpoint. A software GPU may have matrices, but none that are faster than its own way in f32. */
export function halfProductsOn(computeDtype: ComputeDtype, traits: AdapterTraits): boolean {
  switch (computeDtype) {
    case "f32":
      return false;
    case "f16":
      return true;
    case "auto":
      return !traits.isSoftware && hasHalfMatrices(traits);
    default:
      throw new Error(`unknown compute_dtype ${String(computeDtype satisfies never)}`);
  }
}

/** A run that goes on under the same key and on the same GPU computes as it did, whatever `auto` would choose now. */
export function resumedHalfProducts(
  computeDtype: ComputeDtype,
  traits: AdapterTraits,
  saved: Pick<SavedRun, "state" | "settings"> | undefined,
): boolean {
  if (saved?.state.gpu === traits.name && saved.settings["compute_dtype"] === computeDtype) {
    const { half_products: before } = saved.state;
    if (before !== undefined) return before;
  }
  return halfProductsOn(computeDtype, traits);
}

/** The run's programs and plan with that choice: the same tensors in the same places. */
export function withHalfProducts(
  run: PlannedRun,
  shape: RunShape,
  halfProducts: boolean,
): Omit<PlannedRun, "settings"> {
  const { settings: _settings, ...planned } =
    run.storage.halfProducts === halfProducts
      ? run
      : planRun(shape, { ...run, storage: { ...run.storage, halfProducts } });
  return planned;
}
