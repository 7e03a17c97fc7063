/**
 * Picks a variant for every kind of call by measuring it on the adapter at hand, and remembers it per adapter. Timed
 * choices can change the last bits of a result, so the table that was used is part of a run.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { QdoraError } from "../formats/error.js";
import { writeFileAtomic } from "../formats/files.js";
import { makeFolder } from "../formats/make_folder.js";
import { version } from "../formats/version.js";
import { dawnVersion } from "../gpu/dawn_version.js";
import type { AdapterTraits } from "../gpu/traits.js";
import { timedVariants, type ChooseVariant, type Executor } from "./executor.js";
import type { Call, Program, Variant } from "./kernel.js";
import { tensorBytes, type Tensor } from "./tensor.js";

export type TuneMode = "off" | "quick" | "full";

/** Call class -> variant name. */
export type VariantTable = ReadonlyMap<string, string>;

const REPEATS: Record<Exclude<TuneMode, "off">, number> = { quick: 1, full: 5 };
/** Bumped when kernels change so much between two releases that old measurements mislead. */
const CACHE_VERSION = 7;
/** Variants stand in order of preference: a later one has to take less than this share of the best so far, so that noise does not decide. */
const CLEARLY_FASTER = 0.9;

/** Sizes that say where in a tensor something starts. */
const PLACE = /row$|column$|^slot$|^module$|^firstRow$|At$|^(a|b|m|product|square|scale)\d+$/i;

/** Calls of one class run the same code on the same sizes; where in a tensor they start makes no difference. */
export function callClass(call: Call): string {
  const sizes = Object.entries(call.sizes).filter(
    ([name, value]) => Number.isInteger(value) && !PLACE.test(name),
  );
  const options = Object.entries(call.options);
  const text = [...sizes, ...options]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`);
  return `${call.kernel.name} ${text.join(" ")}`;
}

/** `QDORA_CACHE`, else the user's cache folder. */
export const cacheFolder = (): string =>
  process.env["QDORA_CACHE"] || join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "qdora");

/** Where something is remembered of an adapter with this driver, by this qdora and this Dawn. @param more tells apart what else it depends on */
export function adapterFile(traits: AdapterTraits, ...more: readonly string[]): string {
  const identity = JSON.stringify([
    CACHE_VERSION,
    version,
    dawnVersion(),
    traits.name,
    traits.vendor,
    traits.architecture,
    traits.subgroupMinSize,
    traits.subgroupMaxSize,
    ...more,
  ]);
  return join(
    cacheFolder(),
    "tune",
    `${createHash("sha256").update(identity).digest("hex").slice(0, 16)}.json`,
  );
}

async function readCache(path: string): Promise<Map<string, string>> {
  try {
    const json: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof json === "object" && json !== null)
      return new Map(Object.entries(json).filter((e): e is [string, string] => typeof e[1] === "string"));
  } catch {
    // No cache yet, or a broken one: measured again and overwritten.
  }
  return new Map();
}

/** Writes what is remembered of an adapter; where that cannot be, says so and goes on. @param what "what was measured" */
export async function remember(
  path: string,
  json: unknown,
  what: string,
  say: (line: string) => void,
): Promise<void> {
  try {
    makeFolder(join(cacheFolder(), "tune"));
    await writeFileAtomic(path, JSON.stringify(json, null, 1));
  } catch (error) {
    if (!(error instanceof QdoraError)) throw error;
    say(`note: ${what} is not kept: ${error.message}`);
  }
}

/**
 * Measures what the cache does not know yet. The executor's buffers are used as they are, so call this before weights are loaded.
 * @returns the table of all classes with more than one variant
 */
export async function tune(
  executor: Executor,
  programs: readonly Program[],
  mode: TuneMode,
  say: (line: string) => void = () => undefined,
  signal?: AbortSignal,
): Promise<VariantTable> {
  const table = new Map<string, string>();
  if (mode === "off") return table;
  const { gpu } = executor;
  // Without matrices (a trial may have failed once) other variants are best.
  const path = adapterFile(gpu.traits, JSON.stringify(gpu.traits.matrixShapes));
  const cache = await readCache(path);
  let measured = 0;
  /** What measured calls have added to: whatever they found in workspace may be in there now. */
  const gradients = new Map<string, Tensor>();
  for (const [program, call] of programs.flatMap((p) => p.calls.map((c) => [p.name, c] as const))) {
    if (call.kernel.transfer) continue;
    const key = callClass(call);
    if (table.has(key)) continue;
    const variants = timedVariants(call, gpu);
    if (variants.length < 2) continue;
    const known = cache.get(key);
    if (known !== undefined && variants.some((v) => v.name === known)) {
      table.set(key, known);
      continue;
    }
    if (measured++ === 0) say("measuring kernel variants on this GPU (once)");
    for (const t of Object.values(call.tensors)) if (t.kind === "gradient") gradients.set(t.name, t);
    const measure = async (variant: Variant): Promise<number> => {
      signal?.throwIfAborted();
      return executor.measure(program, call, variant, REPEATS[mode]);
    };
    let best: { readonly variant: Variant; ms: number } | undefined;
    for (const variant of variants) {
      const ms = await measure(variant);
      // Whoever loses is asked again: something may have disturbed it.
      if (best && ms < CLEARLY_FASTER * best.ms) best.ms = Math.min(best.ms, await measure(best.variant));
      if (!best || ms < CLEARLY_FASTER * best.ms) best = { variant, ms };
    }
    if (!best) continue;
    table.set(key, best.variant.name);
    cache.set(key, best.variant.name);
  }
  for (const t of gradients.values()) await executor.write(t, new Uint8Array(tensorBytes(t)));
  if (measured > 0) {
    // Another run may have measured meanwhile: what it found stays.
    for (const [key, name] of await readCache(path)) if (!table.has(key)) cache.set(key, name);
    const sorted = [...cache].toSorted(([a], [b]) => (a < b ? -1 : 1));
    await remember(path, Object.fromEntries(sorted), "what was measured", say);
  }
  return table;
}

/** A forced name wins (`QDORA_VARIANT=tile`), then the table, then the first variant that accepts the call. */
export function chooseFrom(
  table: VariantTable,
  forced: string | undefined = process.env["QDORA_VARIANT"],
): ChooseVariant {
  return (call, accepted) =>
    accepted.find((v) => v.name === forced) ??
    accepted.find((v) => v.name === table.get(callClass(call))) ??
    (accepted[0] as (typeof accepted)[number]);
}
