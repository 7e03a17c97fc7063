/** What adapters of this machine achieved in earlier runs, so that plans can say how long a run would take. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeFileAtomic } from "../formats/files.js";
import { makeFolder } from "../formats/make_folder.js";
import { hostStateBytes, layerBytesName } from "../model/layer_stream.js";
import { programCost } from "../program/costing.js";
import { cacheFolder } from "../program/tuner.js";
import type { PlannedRun } from "./memory.js";
import { transferBytes } from "./transfers.js";

const rate = z.object({
  /** Floating point operations per second over whole optimizer steps. */
  flops: z.number().positive(),
  /** Bytes per second from host to GPU. */
  upload: z.number().positive(),
});
export type Rates = z.infer<typeof rate>;

const file = (): string => join(cacheFolder(), "rates.json");

/** Rates by adapter name; empty where nothing was measured yet. */
export async function readRates(): Promise<ReadonlyMap<string, Rates>> {
  try {
    const parsed = z.record(z.string(), rate).safeParse(JSON.parse(await readFile(file(), "utf8")));
    return new Map(Object.entries(parsed.data ?? {}));
  } catch {
    // Nothing measured yet, or a damaged file: the next run writes it anew.
    return new Map();
  }
}

/**
 * Remembers what an adapter did in a run; the best counts, since small models keep no GPU busy.
 * @throws QdoraError if the cache cannot be written
 */
export async function recordRates(adapter: string, rates: Rates): Promise<void> {
  const known = await readRates();
  const before = known.get(adapter) ?? rates;
  const best = {
    flops: Math.max(before.flops, rates.flops),
    upload: Math.max(before.upload, rates.upload),
  };
  const all = new Map(known).set(adapter, best);
  makeFolder(cacheFolder());
  await writeFileAtomic(file(), JSON.stringify(Object.fromEntries(all), null, 1));
}

export interface ExpectedTime {
  /** Seconds of one micro-batch at full capacity. */
  readonly computeSeconds: number;
  readonly transferSeconds: number;
  /** Tokens of a micro-batch from which on transfers take under a tenth of the time. */
  readonly tokensForTenth: number;
}

/**
 * Transfers are added to the computing: there is one queue.
 * @param accumulation micro-batches in an optimizer step, which share what it moves
 */
export function expectedTime(
  run: PlannedRun,
  { capacity, accumulation }: { readonly capacity: number; readonly accumulation: number },
  rates: Rates,
): ExpectedTime {
  const [microBatch] = run.programs;
  const computeSeconds = (microBatch ? programCost(microBatch).flops : 0) / rates.flops;
  const transferSeconds = transferBytes(run, accumulation) / rates.upload;
  // What streams layers does not grow with the tokens; what moves checkpoints does.
  const layers = layerTransferBytes(run, accumulation);
  const perToken = (computeSeconds - 9 * (transferSeconds - layers / rates.upload)) / capacity;
  return {
    computeSeconds,
    transferSeconds,
    tokensForTenth: layers === 0 ? 0 : Math.ceil((9 * layers) / rates.upload / perToken),
  };
}

/** Of them, what streams layers: weights and trained state. */
function layerTransferBytes(run: PlannedRun, accumulation: number): number {
  const { model } = run;
  const names = new Set([
    ...model.layers.map((w) => layerBytesName(w.layer)),
    ...hostStateBytes(model).keys(),
  ]);
  return transferBytes(run, accumulation, ({ host }) => host !== undefined && names.has(host));
}
