/** Every key of `finetune` in one table: the source of defaults, flags, YAML keys, checks and help. */
import { z } from "zod";
import { above0, bytes, names, positiveOrOff, type FlagText } from "./values.js";

export interface Key<S extends z.ZodType = z.ZodType, D = unknown> {
  readonly group: string;
  /** One sentence; with what it costs where it costs something. */
  readonly help: string;
  readonly schema: S;
  /** What the schema wants, in words: "got X, expected …". */
  readonly expects: string;
  /** The value if nothing is said; undefined = none. */
  readonly fallback: D;
  /** Shown instead of the fallback. */
  readonly shown?: string;
  readonly isRequired?: true;
  /** How the flag's text is read. */
  readonly flag: FlagText;
  /** The word in help after the flag; a switch has none. */
  readonly placeholder: string;
}

type Group = <S extends z.ZodType, const D extends z.output<S> | undefined>(
  key: Omit<Key<S, D>, "group">,
) => Key<S, D>;

const group =
  (name: string): Group =>
  (key) => ({ ...key, group: name });

const whole = (least: number) =>
  ({
    schema: z.int().min(least),
    expects: `a whole number of at least ${least}`,
    flag: "number",
    placeholder: "n",
  }) as const;
const positive = {
  schema: above0,
  expects: "a number above 0",
  flag: "number",
  placeholder: "x",
} as const;
const notNegative = {
  schema: z.number().min(0),
  expects: "a number of 0 or more",
  flag: "number",
  placeholder: "x",
} as const;
const belowOne = {
  schema: z.number().min(0).lt(1),
  expects: "a number from 0 to below 1",
  flag: "number",
  placeholder: "x",
} as const;
const boolean = {
  schema: z.boolean(),
  expects: "true or false",
  flag: "boolean",
  placeholder: "true|false",
} as const;
const toggle = { schema: z.boolean(), expects: "true or false", flag: "boolean", placeholder: "" } as const;
const text = (placeholder: string) =>
  ({ schema: z.string().min(1), expects: "a text", flag: "text", placeholder }) as const;
const moduleNames = {
  schema: names,
  expects: "a list of module names, or a regular expression",
  flag: "text",
  placeholder: "names",
} as const;
const choice = <const C extends readonly [string, ...string[]]>(...choices: C) =>
  ({
    schema: z.enum(choices),
    expects: `one of ${choices.join(", ")}`,
    flag: "text",
    placeholder: choices.join("|"),
  }) as const;
const perModule = (value: z.ZodType<number>, expects: string) =>
  ({ schema: z.record(z.string().min(1), value), expects, flag: "map", placeholder: "name=n,…" }) as const;

const files = group("Files");
const base = group("Base model");
const adapter = group("Adapter");
const batches = group("Data and batches");
const optimization = group("Optimisation");
const reporting = group("Evaluation, logging, checkpoints");
const machine = group("Memory and machine");

export const KEYS = {
  model: files({
    ...text("model"),
    help: "the base model: a folder (config.json, safetensors, tokenizer), or ORG/NAME of the Hub, which is pulled",
    fallback: undefined,
    isRequired: true,
  }),
  revision: files({
    ...text("name"),
    help: "branch, tag or commit of a model of the Hub",
    fallback: "main",
  }),
  data: files({
    schema: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]),
    expects: "a path, or a list of paths",
    flag: "text",
    placeholder: "paths",
    help: "JSONL, JSON, CSV or Parquet files, or folders with train.jsonl or the like, each as PATH:SPLIT[FROM:TO]",
    fallback: undefined,
    isRequired: true,
  }),
  data_weights: files({
    schema: z.array(z.number().gt(0).max(1000)).min(1),
    expects: "a list of numbers above 0, one for each source of data",
    flag: "numbers",
    placeholder: "x,…",
    help: "how often each source's rows count in an epoch, in the order of data; 0.5 takes half of them",
    fallback: undefined,
    shown: "1 for each",
  }),
  columns: files({
    schema: z.record(z.string().min(1), z.string().min(1)),
    expects: "fields of a row with the names of their columns",
    flag: "texts",
    placeholder: "field=column,…",
    help: "which column of the data stands for which field, such as prompt=question,completion=answer",
    fallback: {},
    shown: "as they are called",
  }),
  output_dir: files({
    ...text("folder"),
    help: "where the adapter, metrics and report go",
    fallback: undefined,
    isRequired: true,
  }),
  init_adapter: files({
    ...text("folder"),
    help: "start from this PEFT adapter instead of a fresh one",
    fallback: undefined,
  }),

  quant: base({
    ...choice("nf4", "none"),
    help: "how the frozen weights lie on the GPU; none keeps them as stored: 3.5x the memory",
    fallback: "nf4",
  }),
  double_quant: base({
    ...boolean,
    help: "store the NF4 scales in 8 bits: saves about 0.4 bits per weight",
    fallback: true,
  }),
  quant_head: base({
    ...choice("none", "int8", "nf4"),
    help: "int8 and nf4 also quantise the output head, to a half and a quarter of its memory; int8 is nearly free (held-out loss of a 135 M model: 1.941 to 1.942), nf4 raises the loss, most in small models (to 2.079)",
    fallback: "none",
  }),
  compute_dtype: base({
    ...choice("f32", "f16", "auto"),
    help: "f32 is exact; f16 keeps activations that wait in 16 bits (block floating point), and multiplies by the frozen weights and in attention in f16 where the GPU has matrix units (tensor cores), with rounded inputs where gradients alone depend on it; auto is f16, but never multiplies in f16 on a software GPU",
    fallback: "auto",
  }),

  use_dora: adapter({ ...boolean, help: "train DoRA's magnitudes too; false is plain LoRA", fallback: true }),
  use_rslora: adapter({
    ...boolean,
    help: "scale by alpha / sqrt(rank) instead of alpha / rank",
    fallback: false,
  }),
  rank: adapter({
    ...whole(1),
    help: "rank of the adapter; parameters and optimizer memory grow with it",
    fallback: 16,
  }),
  alpha: adapter({ ...positive, help: "strength of the adapter", fallback: undefined, shown: "2 x rank" }),
  dropout: adapter({
    ...belowOne,
    help: "dropout before the low-rank branch; 0 is the usual choice for DoRA",
    fallback: 0,
  }),
  target_modules: adapter({
    ...moduleNames,
    help: "modules that get an adapter: names, a regular expression, or all-linear",
    fallback: "all-linear",
  }),
  exclude_modules: adapter({ ...moduleNames, help: "modules that get none", fallback: undefined }),
  rank_pattern: adapter({
    ...perModule(z.int().min(1), "module names with whole numbers of at least 1"),
    help: "ranks of single modules, PEFT's patterns",
    fallback: {},
  }),
  alpha_pattern: adapter({
    ...perModule(z.number().gt(0), "module names with numbers above 0"),
    help: "alphas of single modules, PEFT's patterns",
    fallback: {},
  }),

  max_seq_length: batches({
    ...whole(2),
    help: "longer rows are cut here; activation memory grows with the longest row",
    fallback: 1024,
  }),
  packing: batches({
    ...boolean,
    help: "lay short rows together up to max_seq_length: faster steps, fewer of them; rows never see each other",
    fallback: false,
  }),
  batch_size: batches({
    ...whole(1),
    help: "rows in a micro-batch; activation memory grows with it",
    fallback: 1,
  }),
  gradient_accumulation_steps: batches({
    ...whole(1),
    help: "micro-batches in an optimizer step; costs time, no memory",
    fallback: 16,
  }),
  shuffle: batches({
    ...boolean,
    help: "shuffle rows in every epoch; false keeps the file's order",
    fallback: true,
  }),
  train_on_prompt: batches({ ...boolean, help: "score prompts too, not the answers only", fallback: false }),
  val_size: batches({
    schema: z
      .number()
      .gt(0)
      .refine((n) => n < 1 || Number.isInteger(n)),
    expects: "a fraction below 1 or a whole number of rows",
    flag: "number",
    placeholder: "n",
    help: "rows held out for the evaluation loss: a fraction below 1, or a number",
    fallback: undefined,
  }),

  epochs: optimization({ ...positive, help: "times through the data", fallback: 1 }),
  max_steps: optimization({
    ...whole(1),
    help: "optimizer steps instead of epochs; rows start again when they run out",
    fallback: undefined,
  }),
  learning_rate: optimization({ ...positive, help: "the highest learning rate", fallback: 1e-4 }),
  lr_scheduler: optimization({
    ...choice("linear", "cosine", "constant"),
    help: "how the learning rate falls after warm-up",
    fallback: "cosine",
  }),
  warmup_steps: optimization({
    ...whole(0),
    help: "steps in which the learning rate rises; wins over warmup_ratio",
    fallback: undefined,
  }),
  warmup_ratio: optimization({ ...belowOne, help: "warm-up as a part of all steps", fallback: 0.03 }),
  weight_decay: optimization({
    ...notNegative,
    help: "decay of A and B; magnitudes are never decayed",
    fallback: 0,
  }),
  max_grad_norm: optimization({ ...positive, help: "gradients are scaled down to this norm", fallback: 1 }),
  optimizer: optimization({
    ...choice("adamw", "adamw8bit"),
    help: "adamw8bit keeps the moments of A and B in 8 bits: a quarter of their memory",
    fallback: "adamw",
  }),
  seed: optimization({
    schema: z
      .int()
      .min(0)
      .max(2 ** 32 - 1),
    expects: "a whole number from 0 to 4294967295",
    flag: "number",
    placeholder: "n",
    help: "for the start adapter, row order, held-out rows and dropout; the same seed gives the same bytes",
    fallback: 0,
  }),

  eval_steps: reporting({
    ...whole(1),
    help: "steps between evaluations; they cost a forward pass over the held-out rows",
    fallback: undefined,
    shown: "start and end only",
  }),
  logging_steps: reporting({ ...whole(1), help: "steps between lines in metrics.jsonl", fallback: 1 }),
  save_steps: reporting({
    ...whole(1),
    help: "steps between checkpoints; each takes three times the adapter on disk",
    fallback: undefined,
  }),
  save_total_limit: reporting({
    ...whole(1),
    help: "checkpoints to keep; older ones are deleted",
    fallback: undefined,
  }),
  loss_spike_rollback: reporting({
    ...positive,
    schema: positiveOrOff,
    expects: "a number above 0, or off",
    flag: "text",
    placeholder: "x|off",
    help: "go back to a checkpoint and leave out the data when a loss is this many standard deviations above the median of the last 20; needs save_steps, 6 is a cautious choice",
    fallback: undefined,
    shown: "off",
  }),
  resume: reporting({
    ...toggle,
    help: "go on from the newest whole checkpoint in output_dir",
    fallback: false,
  }),

  gradient_checkpointing: machine({
    ...choice("full", "selective", "none"),
    help: "full keeps one activation per layer and computes the rest again: least memory, about a third more time; selective also keeps the attention half, none everything",
    fallback: "full",
  }),
  checkpoint_dtype: machine({
    ...choice("auto", "f32", "bf16"),
    help: "type of the layer inputs that wait for backward; auto: bfp16 (block floating point, 16 bits a value), with gradient_checkpointing selective for what attention adds too; f32 with none and under compute_dtype f32. bf16 is coarser and repeats products for DoRA",
    fallback: "auto",
  }),
  checkpoint_place: machine({
    ...choice("auto", "gpu", "host"),
    help: "where layer inputs wait; host costs their transfer, auto: the GPU unless memory_limit says otherwise",
    fallback: "auto",
  }),
  stream_layers: machine({
    schema: z.union([
      z.literal("auto"),
      z.literal("all"),
      z.int().min(0),
      z.string().regex(/^\d+$/).transform(Number),
    ]),
    expects: "auto, all or a number of layers",
    flag: "text",
    placeholder: "auto|n|all",
    help: "layers that wait on the host, with all that is trained in them, and pass through the GPU, twice in every micro-batch; auto: as few as memory_limit needs",
    fallback: "auto",
  }),
  layer_cache: machine({
    ...choice("ram", "disk"),
    help: "where streamed layers' weights wait: disk takes no memory, and a file under QDORA_CACHE while the run lasts",
    fallback: "ram",
  }),
  token_chunk: machine({
    ...whole(1),
    help: "tokens that go through a layer together, rounded up to 128; fewer take less memory, more keep a large GPU busier",
    fallback: undefined,
    shown: "256, or a 16th of the micro-batch",
  }),
  memory_limit: machine({
    schema: z.union([z.literal("auto"), bytes]),
    expects: "auto, or a size such as 6GB, 5.5GiB or 800MB",
    flag: "text",
    placeholder: "size|auto",
    help: "GPU memory that may be used, auto: what is free now less 5 %; what is auto above gives way, and if that is not enough the run is refused",
    fallback: undefined,
  }),
  device: machine({
    ...text("name"),
    help: "software, hardware, or part of the adapter's name",
    fallback: undefined,
    shown: "the first GPU",
  }),
  tune: machine({
    ...choice("off", "quick", "full"),
    help: "measure which kernels suit this GPU, once; off is a fixed table",
    fallback: "quick",
  }),
  dry_run: machine({
    ...toggle,
    help: "check everything and print the memory plan, without a GPU and without training",
    fallback: false,
  }),
} as const;

type Keys = typeof KEYS;
export type KeyName = keyof Keys;
type Value<K extends KeyName> = z.output<Keys[K]["schema"]>;
/** Keys that always have a value: required ones, and alpha, which follows rank. */
type Settled = "model" | "data" | "output_dir" | "alpha";

/** All keys with their values, as YAML names them. */
export type FinetuneConfig = {
  readonly [K in KeyName]: K extends Settled
    ? Value<K>
    : undefined extends Keys[K]["fallback"]
      ? Value<K> | undefined
      : Value<K>;
} & {
  /** The Hub's name of the model, when `model` is the folder that it was pulled to. */
  readonly model_id?: string | undefined;
};

export const KEY_NAMES = Object.keys(KEYS) as readonly KeyName[];
export const isKeyName = (name: string): name is KeyName => Object.hasOwn(KEYS, name);
/** A key's row of the table, without its exact types. */
export const keyOf = (name: KeyName): Key => KEYS[name];
/** `max_seq_length` -> `--max-seq-length`. */
export const flagName = (name: string): string => `--${name.replaceAll("_", "-")}`;
