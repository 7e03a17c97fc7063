/** How many storage buffers a kernel binds: WebGPU promises eight everywhere, and the software GPU has more. */
import { PORTABLE_TRAITS, type AdapterTraits } from "../../src/gpu/traits.js";
import { expandWgsl, wgslInterface } from "../../src/gpu/wgsl.js";
import type { Call, Variant } from "../../src/program/kernel.js";

export const MOST_BUFFERS = PORTABLE_TRAITS.maxStorageBuffers;

const counted = new Map<string, number>();

/** Those of the shader that a variant makes for a call. */
export function storageBuffers(call: Call, variant: Variant, traits: AdapterTraits): number {
  const { file } = variant;
  const values = variant.defines(call, traits);
  const key = JSON.stringify([file, values]);
  const known = counted.get(key);
  if (known !== undefined) return known;
  const { bindings } = wgslInterface(expandWgsl(file, values), file);
  const count = bindings.filter(({ space }) => space !== "uniform").length;
  counted.set(key, count);
  return count;
}
