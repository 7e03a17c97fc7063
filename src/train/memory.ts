/**
 * Where memory goes in a run: what the settings say, what is chosen where they say `auto`, and the plan that follows.
 * What is chosen by itself never changes the numbers: checkpoints on the host and streamed layers give the same bits.
 */
import type { AdapterLayout } from "../adapter/layout.js";
import { QdoraError } from "../formats/error.js";
import { videoMemory } from "../gpu/video_memory.js";
import { PORTABLE_TRAITS } from "../gpu/traits.js";
import type { DenseFormat } from "../kernels/weight.js";
import type { Architecture } from "../model/config.js";
import type { LinearModule } from "../model/modules.js";
import {
  evaluationProgram,
  lowestTrained,
  microBatchProgram,
  streamTensors,
  type BuildSizes,
  type StreamTensors,
} from "../model/programs.js";
import { hostStateBytes } from "../model/layer_stream.js";
import { RING_SLOTS } from "../model/ring.js";
import type { ActivationType, StreamStorage } from "../model/stream.js";
import { modelTensors, type HeadFormat, type LinearFormat, type ModelTensors } from "../model/tensors.js";
import type { Program } from "../program/kernel.js";
import { tensorBytes } from "../program/tensor.js";
import { planMemory, type MemoryPlan } from "../program/planner.js";
import { optimizerProgram } from "./optimizer.js";
import type { TrainingSettings } from "./settings.js";

/** The settings that decide about memory. */
export type MemorySettings = Pick<
  TrainingSettings,
  | "double_quant"
  | "compute_dtype"
  | "gradient_checkpointing"
  | "checkpoint_dtype"
  | "checkpoint_place"
  | "quant_head"
  | "stream_layers"
  | "layer_cache"
  | "token_chunk"
>;

/** What a run is about, as far as memory goes. */
export interface RunShape {
  readonly arch: Architecture;
  readonly linear: (module: LinearModule) => LinearFormat;
  /** Stored types of embedding and head. */
  readonly table: DenseFormat;
  readonly head: DenseFormat;
  readonly layout: AdapterLayout;
  /** The most tokens one micro-batch has, and the longest row. */
  readonly capacity: number;
  readonly positions: number;
  readonly evaluates: boolean;
}

/** Nothing left to choose. */
export interface MemoryChoices {
  readonly settings: MemorySettings;
  readonly storage: StreamStorage;
  readonly residentLayers: number;
}

export interface PlannedRun extends MemoryChoices {
  readonly model: ModelTensors;
  readonly stream: StreamTensors;
  /** Programs at full capacity, as they were planned. */
  readonly programs: readonly Program[];
  readonly plan: MemoryPlan;
  /** Bytes that wait on the host by class; the runtime's own are not counted. */
  readonly host: ReadonlyMap<string, number>;
}

/** Scalars and adapters come back through a buffer of this size. */
export const READBACK_BYTES = 1 << 20;

const CHUNK_STEP = 128;
/** Wide enough for products to be at their best, and at most so many chunks. */
const LEAST_CHUNK = 256;
const MOST_CHUNKS = 16;

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

const upTo = (n: number, step: number): number => Math.ceil(n / step) * step;

/** Left to the desktop and to what grows while a run lasts, where the limit is what is free now. */
const SPARE = 0.05;

/**
 * The GPU bytes that a run may use.
 * @throws QdoraError for `auto` where the system does not say how much is free
 */
export async function memoryLimit(settings: TrainingSettings): Promise<number | undefined> {
  const { memory_limit: limit } = settings;
  if (limit !== "auto") return limit;
  const memory = await videoMemory();
  if (memory) return Math.floor(memory.freeBytes * (1 - SPARE));
  throw new QdoraError(
    "memory_limit",
    "the system does not say how much GPU memory is free (auto needs one NVIDIA or AMD card)",
    "give a size, such as --memory-limit 6GB",
    { exitCode: 2 },
  );
}

/** @throws QdoraError for more streamed layers than there are */
function residentOf({ layers }: Architecture, streamed: MemorySettings["stream_layers"]): number {
  if (streamed === "all") return 0;
  if (streamed === "auto") return layers;
  if (streamed <= layers) return layers - streamed;
  throw new QdoraError(
    "stream_layers",
    `got ${streamed} (limit ${layers}, the layers of this model)`,
    "use all",
    {
      exitCode: 2,
    },
  );
}

/** The smallest type of layer inputs for which no product has to be repeated; where all are repeated anyway, the smallest. */
function checkpointType(
  { hidden }: Architecture,
  { compute_dtype, gradient_checkpointing }: MemorySettings,
): ActivationType {
  if (compute_dtype === "f32" || gradient_checkpointing === "none") return "f32";
  if (hidden % 4 === 0) return "bfp16";
  return gradient_checkpointing === "full" ? "bf16" : "f32";
}

/** What the settings say, `auto` meaning the least memory that costs no time worth naming. */
export function defaultChoices(shape: RunShape, settings: MemorySettings): MemoryChoices {
  const { arch, capacity } = shape;
  const isPacked = settings.compute_dtype !== "f32";
  const wanted = settings.token_chunk ?? Math.max(LEAST_CHUNK, capacity / MOST_CHUNKS);
  const asked = settings.checkpoint_dtype;
  const checkpoint = asked === "auto" ? checkpointType(arch, settings) : asked;
  return {
    settings,
    storage: {
      chunk: upTo(wanted, CHUNK_STEP),
      // A block of four is turned by RoPE together with one of the other half.
      attention: isPacked && arch.headDim % 8 === 0 ? "bfp16" : "f32",
      checkpoint,
      kept: checkpoint === "bfp16" && (arch.heads * arch.headDim) % 4 === 0 ? "bfp16" : "f32",
      checkpointPlace: settings.checkpoint_place === "host" ? "host" : "gpu",
      hostEmbedding: !arch.tied || settings.quant_head !== "none",
      halfProducts: settings.compute_dtype === "f16",
    },
    residentLayers: residentOf(arch, settings.stream_layers),
  };
}

function headFormat(shape: RunShape, { quant_head: quant, double_quant }: MemorySettings): HeadFormat {
  switch (quant) {
    case "nf4":
      return { format: "nf4", blockSize: 64, doubleQuant: double_quant };
    case "int8":
      return { format: "int8" };
    case "none":
      return { format: shape.head };
    default:
      throw new Error(`unknown quant_head ${String(quant satisfies never)}`);
  }
}

/** Describes all tensors, builds all programs and plans their memory. */
export function planRun(shape: RunShape, choices: MemoryChoices): PlannedRun {
  const { arch, layout, capacity, positions } = shape;
  const { settings, storage, residentLayers } = choices;
  const model = modelTensors(arch, {
    linear: shape.linear,
    table: shape.table,
    head: headFormat(shape, settings),
    hostEmbedding: storage.hostEmbedding,
    hostSquares: true,
    residentLayers,
    positions,
    maxBindingBytes: PORTABLE_TRAITS.maxBindingBytes,
    adapter: layout,
  });
  const stream = streamTensors(capacity);
  const sizes: BuildSizes = {
    N: capacity,
    capacity,
    checkpointing: settings.gradient_checkpointing,
    storage,
  };
  const programs = [
    microBatchProgram(model, stream, sizes),
    optimizerProgram(layout, stream, model.ring),
    ...(shape.evaluates ? [evaluationProgram(model, stream, sizes)] : []),
  ];
  const plan = planMemory(programs, READBACK_BYTES, [stream.tokens]);
  return { ...choices, model, stream, programs, plan, host: hostBytes(shape, choices, model) };
}

function hostBytes(
  shape: RunShape,
  { settings, storage, residentLayers }: MemoryChoices,
  model: ModelTensors,
): ReadonlyMap<string, number> {
  const { arch, capacity } = shape;
  const host = new Map<string, number>();
  // On disk, one of them at a time is read into memory.
  const waiting = settings.layer_cache === "disk" ? 1 : arch.layers - residentLayers;
  if (model.ring) {
    host.set("streamed layers", waiting * model.ring.frozenBytes);
    host.set("streamed layers' adapters", sum([...hostStateBytes(model).values()]));
  }
  if (model.rowSquares) host.set("row squares", tensorBytes(model.rowSquares));
  if (storage.checkpointPlace === "host")
    host.set(
      "checkpoints",
      (arch.layers - lowestTrained(model)) * capacity * arch.hidden * (storage.checkpoint === "f32" ? 4 : 2),
    );
  if (storage.hostEmbedding) host.set("embedding rows", 4 * capacity * arch.hidden);
  return host;
}

/**
 * The plan of a run. With a limit, what is `auto` gives way until the plan fits, the cheapest first: checkpoints go to the
 * host, then as few layers as need be are streamed.
 */
export function fitMemory(shape: RunShape, settings: MemorySettings, limit: number | undefined): PlannedRun {
  let run = planRun(shape, defaultChoices(shape, settings));
  if (limit === undefined) return run;
  const fits = (): boolean => run.plan.totalBytes <= limit;
  if (!fits() && settings.checkpoint_place === "auto") {
    const moved = planRun(shape, { ...run, storage: { ...run.storage, checkpointPlace: "host" } });
    // Small models have less to move than the buffers that move it take.
    if (moved.plan.totalBytes < run.plan.totalBytes) run = moved;
  }
  if (fits() || settings.stream_layers !== "auto") return run;
  const { layers } = shape.arch;
  // As many streamed layers as there are slots would save hardly more than their moments.
  const mostResident = layers - RING_SLOTS - 1;
  if (mostResident < 0) return run;
  let fitting = planRun(shape, { ...run, residentLayers: 0 });
  const { model } = fitting;
  const layerBytes = (model.ring?.frozenBytes ?? 0) + sum([...hostStateBytes(model).values()]) / layers;
  let [least, tooMany] = [0, mostResident + 1];
  while (fitting.plan.totalBytes <= limit && tooMany - least > 1) {
    // What the bytes to spare are enough for; from the middle on where layers are too unlike for that.
    const spare = Math.max(1, Math.floor((limit - fitting.plan.totalBytes) / layerBytes));
    const next = least + spare < tooMany ? least + spare : Math.floor((least + tooMany) / 2);
    const some = planRun(shape, { ...run, residentLayers: next });
    if (some.plan.totalBytes <= limit) [fitting, least] = [some, next];
    else tooMany = next;
  }
  return fitting;
}
