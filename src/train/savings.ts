/** What would make a run smaller: every change with the bytes that it saves and what it costs, the cheapest first. */
import { adapterLayout } from "../adapter/layout.js";
import { RING_SLOTS } from "../model/ring.js";
import { defaultChoices, planRun, type PlannedRun, type RunShape } from "./memory.js";
import { MOMENT_BITS } from "./optimizer.js";
import type { TrainingSettings } from "./settings.js";
import { transferBytes } from "./transfers.js";

export interface Saving {
  /** As a person would write it: "--optimizer adamw8bit". */
  readonly change: string;
  /** GPU bytes that this change saves on top of those before it. */
  readonly savedBytes: number;
  /** GPU bytes of the run with this change and those before it. */
  readonly bytes: number;
  /** Bytes that move between host and GPU for it in each micro-batch, its share of an optimizer step's included. */
  readonly transferBytes: number;
  /** What it costs, in words. */
  readonly cost: string;
}

interface Change {
  readonly change: string;
  readonly cost: string;
  readonly isOpen: (s: TrainingSettings, run: PlannedRun) => boolean;
  readonly apply: (s: TrainingSettings) => TrainingSettings;
}

const CHANGES: readonly Change[] = [
  {
    change: "--optimizer adamw8bit",
    cost: "no time; the optimizer's moments are rounded to 8 bits",
    isOpen: (s) => s.optimizer === "adamw",
    apply: (s) => ({ ...s, optimizer: "adamw8bit" }),
  },
  {
    change: "--compute-dtype auto",
    cost: "no time; activations that wait are rounded to 16 bits",
    isOpen: (s) => s.compute_dtype === "f32",
    apply: (s) => ({ ...s, compute_dtype: "auto" }),
  },
  {
    change: "--gradient-checkpointing full",
    cost: "about a third more time",
    isOpen: (s) => s.gradient_checkpointing !== "full",
    apply: (s) => ({ ...s, gradient_checkpointing: "full" }),
  },
  {
    change: "--token-chunk 128",
    cost: "smaller products: some percent of time",
    isOpen: (_, run) => run.storage.chunk > 128,
    apply: (s) => ({ ...s, token_chunk: 128 }),
  },
  {
    change: "--checkpoint-place host",
    cost: "the transfer of layer inputs, there and back, for DoRA back twice",
    isOpen: (_, run) => run.storage.checkpointPlace === "gpu",
    apply: (s) => ({ ...s, checkpoint_place: "host" }),
  },
  {
    change: "--quant nf4",
    cost: "some time for decoding; the weights are rounded to 4 bits",
    isOpen: (s, run) => s.quant === "none" && !run.model.arch.quantized,
    apply: (s) => ({ ...s, quant: "nf4" }),
  },
  {
    change: "--quant-head int8",
    cost: "no time; a 135 M model's loss goes from 1.941 to 1.942",
    isOpen: (s) => s.quant_head === "none",
    apply: (s) => ({ ...s, quant_head: "int8" }),
  },
  {
    change: "--quant-head nf4",
    cost: "no time; raises the loss (a 135 M model's from 1.94 to 2.08)",
    isOpen: (s) => s.quant_head !== "nf4",
    apply: (s) => ({ ...s, quant_head: "nf4" }),
  },
  {
    change: "--stream-layers all",
    cost: "the transfer of all layers, twice in every micro-batch",
    isOpen: (s, run) =>
      s.stream_layers !== "all" && run.residentLayers > 0 && run.model.layers.length > RING_SLOTS,
    apply: (s) => ({ ...s, stream_layers: "all" }),
  },
];

const flagOf = (change: string): string | undefined => change.split(" ")[0];

/**
 * Changes one on top of the other until the run fits.
 * @param limit GPU bytes; undefined lists all that save anything
 */
export function savings(
  shape: RunShape,
  settings: TrainingSettings,
  start: PlannedRun,
  limit: number | undefined,
): readonly Saving[] {
  const found: Saving[] = [];
  const { gradient_accumulation_steps: accumulation } = settings;
  // What was chosen for the start stays chosen.
  const chosen = {
    ...settings,
    checkpoint_place: start.storage.checkpointPlace,
    stream_layers: shape.arch.layers - start.residentLayers,
  };
  let [s, run, now] = [chosen, start, shape] as [TrainingSettings, PlannedRun, RunShape];
  for (const { change, cost, isOpen, apply } of CHANGES) {
    if (limit !== undefined && run.plan.totalBytes <= limit) break;
    if (!isOpen(s, run)) continue;
    const next = apply(s);
    const nextShape = reshaped(now, next);
    const smaller = planRun(nextShape, defaultChoices(nextShape, next));
    const savedBytes = run.plan.totalBytes - smaller.plan.totalBytes;
    if (savedBytes <= 0) continue;
    const moved = transferBytes(smaller, accumulation) - transferBytes(run, accumulation);
    // A stronger value of the same setting takes the place of the weaker one.
    const isStronger = flagOf(found.at(-1)?.change ?? "") === flagOf(change);
    const weaker = isStronger ? found.pop() : undefined;
    found.push({
      change,
      cost,
      savedBytes: savedBytes + (weaker?.savedBytes ?? 0),
      bytes: smaller.plan.totalBytes,
      transferBytes: Math.max(0, moved) + (weaker?.transferBytes ?? 0),
    });
    [s, run, now] = [next, smaller, nextShape];
  }
  return found;
}

/** The shape with what the settings change of it: the layout of the optimizer's state, and how weights are stored. */
function reshaped(shape: RunShape, s: TrainingSettings): RunShape {
  const { modules, settings } = shape.layout;
  const targets = [...modules.values()].map((m) => ({
    module: m,
    rank: m.rank,
    alpha: m.alpha,
    scaling: m.scaling,
  }));
  const layerOf = (m: { readonly path: string }): number => Number(/layers\.(\d+)\./.exec(m.path)?.[1] ?? 0);
  return {
    ...shape,
    layout: adapterLayout(targets, settings, layerOf, MOMENT_BITS[s.optimizer]),
    linear: (m) => {
      const stored = shape.linear(m);
      return s.quant === "nf4" && stored.format !== "nf4"
        ? { format: "nf4", blockSize: 64, doubleQuant: s.double_quant }
        : stored;
    },
  };
}
