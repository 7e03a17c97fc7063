/** Opens a GPU for work that may run on subgroup matrices: without them where a trial finds that they are wrong. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { openGpu, type Gpu, type OpenOptions } from "../gpu/device.js";
import { OutOfGpuMemoryError } from "../gpu/errors.js";
import type { AdapterTraits } from "../gpu/traits.js";
import { adapterFile, remember } from "../program/tuner.js";
import { triedText, tryMatrices } from "./matrix_trial.js";
import { hasHalfMatrices } from "./product_matrix.js";

/** What is known of an adapter's matrices: there are none for our kernels, they were not tried, they are right, or they are not used. */
export type MatrixTrust = "absent" | "untried" | "right" | "wrong";

export interface TrustedGpu {
  /** Its traits have no matrices where they are wrong. */
  readonly gpu: Gpu;
  readonly matrices: MatrixTrust;
}

export interface TrialOptions {
  /** @returns what was off; empty where all was right */
  readonly trial?: (gpu: Gpu) => Promise<readonly string[]>;
  /** Software adapters take seconds for each shader, and their matrices are what the tests run on. */
  readonly onSoftware?: boolean;
}

/** At most so many calls are named. */
const MOST_NAMED = 3;

const trialFile = (traits: AdapterTraits): string =>
  adapterFile(traits, createHash("sha256").update(triedText(traits)).digest("hex"));

/** What a trial of the same shaders found before. */
async function remembered(path: string): Promise<readonly string[] | undefined> {
  try {
    const json: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof json !== "object" || json === null || !("faults" in json)) return undefined;
    const { faults } = json;
    return Array.isArray(faults) ? faults.map(String) : undefined;
  } catch {
    // Nothing yet, or a broken file: tried again and overwritten.
    return undefined;
  }
}

function faultLine(traits: AdapterTraits, what: string): string {
  return `note: the matrix units of ${traits.name} ${what}; plain kernels run in their place. Please report this, with the output of \`qdora doctor\``;
}

function named(faults: readonly string[]): string {
  const more = faults.length > MOST_NAMED ? `, and ${faults.length - MOST_NAMED} more` : "";
  return faults.slice(0, MOST_NAMED).join(", ") + more;
}

const withoutMatrices = (gpu: Gpu): Gpu => ({ ...gpu, traits: { ...gpu.traits, matrixShapes: [] } });

/**
 * Opens a GPU and tries its matrices, unless a trial of the same driver and shaders is remembered (beside the tuner's tables).
 * A trial has a device of its own: one that is lost or reports errors does not end what comes after it.
 * @param say told in a line that there is a trial, and in another where matrices are not used
 */
export async function openTrusted(
  options: OpenOptions,
  say: (line: string) => void,
  { trial = tryMatrices, onSoftware = false }: TrialOptions = {},
): Promise<TrustedGpu> {
  const gpu = await openGpu(options);
  const { traits } = gpu;
  if (!hasHalfMatrices(traits)) return { gpu, matrices: "absent" };
  if (traits.isSoftware && !onSoftware) return { gpu, matrices: "untried" };
  const path = trialFile(traits);
  let faults = await remembered(path);
  if (faults) return judged(gpu, faults, say);
  say("trying this GPU's matrix units (once)");
  try {
    faults = await trial(gpu);
  } catch (error) {
    await gpu.destroy();
    // A full card says nothing of its matrices, and the run will say that it is full.
    if (error instanceof OutOfGpuMemoryError) return { gpu: await openGpu(options), matrices: "untried" };
    // Not remembered: a GPU may just be lost.
    const [reason] = (error instanceof Error ? error.message : String(error)).split("\n");
    say(faultLine(traits, `fail with this driver: ${reason}`));
    return { gpu: withoutMatrices(await openGpu(options)), matrices: "wrong" };
  }
  await gpu.destroy();
  await remember(path, { faults }, "the result of the matrix units' trial", say);
  return judged(await openGpu(options), faults, say);
}

function judged(gpu: Gpu, faults: readonly string[], say: (line: string) => void): TrustedGpu {
  if (faults.length === 0) return { gpu, matrices: "right" };
  say(faultLine(gpu.traits, `give wrong numbers with this driver: ${named(faults)} off`));
  return { gpu: withoutMatrices(gpu), matrices: "wrong" };
}
