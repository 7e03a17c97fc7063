/** The memory plan as a table and as JSON. */
import type { MemoryPlan } from "../program/planner.js";
import { tensorBytes, type Kind } from "../program/tensor.js";
import type { StreamStorage } from "../model/stream.js";
import type { PlannedRun, RunShape } from "../train/memory.js";
import { expectedTime, type Rates } from "../train/rates.js";
import type { Saving } from "../train/savings.js";
import type { TrainingSettings } from "../train/settings.js";
import { formatBytes } from "../formats/bytes.js";
import { formatRate } from "./format.js";

const WORDS: Record<Kind, string> = {
  weight: "frozen weights of the layers",
  embedding: "token embedding (also the head where tied)",
  head: "output head",
  adapter: "trained factors and magnitudes",
  row_norm: "row norms and scales",
  gradient: "gradients of the adapter",
  moment: "optimizer state",
  checkpoint: "layer inputs kept for backward",
  cache: "keys and values",
  logits: "one chunk of logits",
  workspace: "activations, in shared slots",
  staging: "inputs and read-back",
  uniform: "sizes of all kernel calls",
};

/** Bytes by class, largest first, and the sum. */
export function planTable(plan: MemoryPlan): string {
  return table(
    [...plan.bytesByKind].map(([kind, bytes]) => [kind, bytes, WORDS[kind]]),
    plan.totalBytes,
  );
}

function table(rows: readonly (readonly [string, number, string])[], total: number): string {
  const sorted = rows.toSorted((a, b) => b[1] - a[1]);
  const width = Math.max(...sorted.map(([name]) => name.length), 5);
  const line = (name: string, bytes: number, words: string): string =>
    `  ${name.padEnd(width)}  ${formatBytes(bytes).padStart(8)}  ${words}`.trimEnd();
  return [...sorted.map(([name, bytes, words]) => line(name, bytes, words)), line("total", total, "")].join(
    "\n",
  );
}

export interface PlanReport {
  readonly name: string;
  readonly config: TrainingSettings;
  readonly shape: RunShape;
  readonly run: PlannedRun;
  readonly limit: number | undefined;
  readonly savings: readonly Saving[];
}

/** GPU bytes of the frozen layers alone: less than this no run can take. */
export function floorBytes(run: PlannedRun): number {
  let bytes = 0;
  for (const { linears } of run.model.layers) {
    for (const { weight } of Object.values(linears))
      for (const t of weight.format === "nf4" ? [weight.codes, weight.absmax] : [weight.values])
        bytes += tensorBytes(t);
  }
  return bytes;
}

const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);

/** No plan depends on it: what the GPU offers decides when it is opened. */
const PRODUCTS: Record<TrainingSettings["compute_dtype"], string> = {
  f32: "products in f32",
  f16: "products in f16 where the GPU has matrix units for it, else in f32",
  auto: "products in f16 where a real GPU has matrix units for it, else in f32",
};

function choicesText({ shape, run, config }: PlanReport): string {
  const { storage, residentLayers } = run;
  const streamed = shape.arch.layers - residentLayers;
  return [
    waitingText(storage, config),
    `attention reads ${storage.attention}`,
    PRODUCTS[config.compute_dtype],
    shape.capacity > storage.chunk ? `chunks of ${storage.chunk} tokens` : "",
    storage.hostEmbedding ? "embedding rows from the host" : "",
    config.quant_head === "none" ? "" : `head in ${config.quant_head}`,
    streamed > 0 ? `${streamed} of ${shape.arch.layers} layers streamed from ${config.layer_cache}` : "",
    config.use_dora && storage.checkpoint === "bf16" ? computedAgain({ shape, config }) : "",
  ]
    .filter(Boolean)
    .join("; ");
}

/** What waits for backward, in which type and where. */
function waitingText(
  { checkpoint, kept, checkpointPlace }: StreamStorage,
  { gradient_checkpointing }: PlanReport["config"],
): string {
  const place = checkpointPlace === "gpu" ? "on the GPU" : "on the host";
  if (gradient_checkpointing === "full") return `layer inputs in ${checkpoint} ${place}`;
  if (checkpoint === kept && checkpointPlace === "gpu")
    return `layer inputs and activations in ${kept} ${place}`;
  return `layer inputs in ${checkpoint} ${place}, activations in ${kept} on the GPU`;
}

/** Modules with a magnitude whose outputs layer inputs in bf16 do not give. */
function computedAgain({ shape, config }: Pick<PlanReport, "shape" | "config">): string {
  const names = config.gradient_checkpointing === "full" ? ["down_proj"] : ["o_proj", "down_proj"];
  const paths = [...shape.layout.modules.keys()];
  const again = names.filter((name) => paths.some((path) => path.endsWith(`.${name}`)));
  if (again.length === 0) return "";
  const [verb, whose] = again.length === 1 ? ["is", "its magnitude"] : ["are", "their magnitudes"];
  return `${again.join(" and ")} ${verb} computed again for ${whose}`;
}

const sizesOf = ({ shape, config }: PlanReport): Parameters<typeof expectedTime>[1] => ({
  capacity: shape.capacity,
  accumulation: config.gradient_accumulation_steps,
});

function timeText(report: PlanReport, rates: ReadonlyMap<string, Rates>): readonly string[] {
  const { run, shape } = report;
  if (rates.size === 0) return ["time: not known here yet; a run on the GPU measures what it can do"];
  return [...rates].map(([adapter, rate]) => {
    const time = expectedTime(run, sizesOf(report), rate);
    const seconds = time.computeSeconds + time.transferSeconds;
    const streams = Number.isFinite(time.tokensForTenth) && time.tokensForTenth > 0;
    const transfer =
      time.transferSeconds === 0
        ? ""
        : `, of it ${((100 * time.transferSeconds) / seconds).toFixed(1)} % transfers${streams ? ` (under 10 % from ${time.tokensForTenth.toLocaleString("en-US")} tokens per micro-batch on)` : ""}`;
    return `time: ${formatRate(shape.capacity / seconds)} tok/s expected on this machine's ${adapter}, from its best run${transfer}`;
  });
}

/** The whole plan for people. */
export function planText(report: PlanReport, rates: ReadonlyMap<string, Rates>): string {
  const { name, config, shape, run, limit } = report;
  const { plan, host } = run;
  const floor = floorBytes(run);
  const method = `${config.quant === "nf4" ? "Q" : ""}${config.use_dora ? "DoRA" : "LoRA"}`;
  const buffer = plan.buffers.reduce((a, b) => (b.bytes > a.bytes ? b : a));
  return [
    `${name}: ${method} rank ${config.rank}, micro-batches of up to ${shape.capacity.toLocaleString("en-US")} tokens, ${shape.layout.parameterCount.toLocaleString("en-US")} trained parameters`,
    "GPU, exactly what will be allocated:",
    planTable(plan),
    `  ${(plan.totalBytes / floor).toFixed(2)} x the frozen weights alone (${formatBytes(floor)})`,
    ...(host.size > 0
      ? [
          "host, above the runtime's own:",
          table(
            [...host].map(([what, bytes]) => [what, bytes, ""]),
            sum(host.values()),
          ),
        ]
      : []),
    `choices: ${choicesText(report)}`,
    `largest buffer: ${buffer.label}, ${formatBytes(buffer.bytes)}; largest binding: ${plan.largestBinding.name}, ${formatBytes(plan.largestBinding.bytes)}${plan.largestBinding.bytes > 2 ** 27 ? " (more than the 134 MB that every adapter binds: see `qdora doctor`)" : ""}`,
    ...timeText(report, rates),
    ...(limit === undefined ? [] : fitText(report, limit)),
  ].join("\n");
}

function fitText({ run, savings }: PlanReport, limit: number): readonly string[] {
  const over = run.plan.totalBytes - limit;
  if (over <= 0) return [`fits ${formatBytes(limit)}, with ${formatBytes(-over)} to spare`];
  const last = savings.at(-1);
  const fits = last !== undefined && last.bytes <= limit;
  return [
    `does not fit ${formatBytes(limit)}: ${formatBytes(over)} too much`,
    fits ? "these changes together make it fit, the cheapest first:" : "these changes are not enough:",
    ...savings.map(
      (s) =>
        `  ${s.change.padEnd(30)} saves ${formatBytes(s.savedBytes).padStart(8)}; costs ${s.cost}${s.transferBytes > 0 ? ` (${formatBytes(s.transferBytes)} per micro-batch)` : ""}`,
    ),
    ...(fits
      ? []
      : ["  --max-seq-length or --batch-size, lower: what is left grows with the tokens of a micro-batch"]),
  ];
}

const HALF_PRODUCTS = {
  f32: "never",
  f16: "matrix units",
  auto: "matrix units of a real GPU",
} as const satisfies Record<TrainingSettings["compute_dtype"], string>;

/** The plan as the JSON object of `--json`. */
export function planJson(report: PlanReport, rates: ReadonlyMap<string, Rates> = new Map()) {
  const { run, shape, limit, savings } = report;
  const { plan, host } = run;
  return {
    gpu_bytes: plan.totalBytes,
    gpu: Object.fromEntries(plan.bytesByKind),
    host_bytes: sum(host.values()),
    host: Object.fromEntries(host),
    tokens: shape.capacity,
    weight_bytes: floorBytes(run),
    largest_buffer_bytes: Math.max(...plan.buffers.map((b) => b.bytes)),
    largest_binding: plan.largestBinding,
    half_products: HALF_PRODUCTS[report.config.compute_dtype],
    streamed_layers: shape.arch.layers - run.residentLayers,
    expected: Object.fromEntries(
      [...rates].map(([adapter, rate]) => {
        const { computeSeconds, transferSeconds, tokensForTenth } = expectedTime(run, sizesOf(report), rate);
        return [
          adapter,
          {
            tokens_per_second: shape.capacity / (computeSeconds + transferSeconds),
            transfer_seconds: transferSeconds,
            ...(tokensForTenth > 0 &&
              Number.isFinite(tokensForTenth) && { tokens_for_10_percent_transfer: tokensForTenth }),
          },
        ];
      }),
    ),
    ...(limit !== undefined && {
      limit_bytes: limit,
      fits: plan.totalBytes <= limit,
      savings: savings.map((s) => ({
        change: s.change,
        saved_bytes: s.savedBytes,
        gpu_bytes: s.bytes,
        transfer_bytes: s.transferBytes,
        cost: s.cost,
      })),
    }),
  };
}
