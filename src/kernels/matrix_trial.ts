/**
 * A trial of the kernels on subgroup matrices: a driver may be wrong there without a word (NVIDIA's was, where workgroup variables
 * were not aligned). A few calls of every kind on seeded data have to come to what plain tiles give on the same GPU.
 */
import { f32ToBf16 } from "../formats/floats.js";
import type { Gpu } from "../gpu/device.js";
import type { AdapterTraits } from "../gpu/traits.js";
import { expandWgsl } from "../gpu/wgsl.js";
import { Executor } from "../program/executor.js";
import type { Call, Program, Variant } from "../program/kernel.js";
import { planMemory } from "../program/planner.js";
import { RandomSource } from "../program/random.js";
import { elementCount, tensor, tensorBytes, type DType, type Tensor } from "../program/tensor.js";
import { callAttentionBackwardKv, callAttentionBackwardQ, callAttentionForward } from "./attention.js";
import { callProductBackward, callProductForward, type HalfInputs } from "./product.js";
import { doubleQuantLayout, type Weight } from "./weight.js";

/** The label names the call in what is reported. */
interface Trial {
  readonly call: Call;
  /** Largest difference to the tile's result that rounding explains, relative to the largest result. Wrong numbers are off by about 1. */
  readonly tolerance: number;
}

const PLAIN = "tile";
const ON_MATRICES = ["matrix", "small_matrix"] as const;

/**
 * Inputs rounded to f16, sums of two f16, and attention, whose probabilities are rounded too: 4e-4, 6e-7 and 6e-4 were seen on matrices
 * that are right, and where a driver rounds toward zero, as it may, 9e-4.
 */
const ROUNDED = 5e-3;
const SPLIT = 1e-5;
const ATTENTION = 4e-3;

const given = (name: string, shape: readonly number[], dtype: DType = "f32"): Tensor =>
  tensor(name, shape, dtype, "cache");

/** No multiples of large tiles; few rows for low ones, and more than the highest takes. */
const [IN, OUT, RANK, BLOCK] = [192, 136, 16, 64];
const [FEW, MANY] = [40, 150];

type Format = "nf4" | "bf16";

function weight(format: Format, name: string): Weight {
  const common = { out: OUT, in: IN };
  if (format === "bf16") return { ...common, format, values: given(`${name}.values`, [OUT, IN], "bf16") };
  return {
    ...common,
    format,
    blockSize: BLOCK,
    doubleQuant: true,
    codes: given(`${name}.codes`, [OUT, IN / 8], "u32"),
    absmax: given(`${name}.absmax`, [doubleQuantLayout((OUT * IN) / BLOCK).words], "u32"),
  };
}

/** A head has no adapter. */
function forward(label: string, N: number, format: Format, half: HalfInputs, isHead = false): Trial {
  const t = {
    x: given(`${label}.x`, [N, IN]),
    y: given(`${label}.y`, [N, OUT]),
    weight: weight(format, label),
    ...(!isHead && {
      p: given(`${label}.p`, [N, RANK]),
      b: given(`${label}.b`, [OUT, RANK]),
      scale_bias: given(`${label}.scale_bias`, [OUT, 2]),
    }),
  };
  const call = callProductForward(label, t, { N, rank: t.p ? RANK : 0, half });
  return { call, tolerance: half === "split" ? SPLIT : ROUNDED };
}

function backward(label: string, N: number, format: Format, accumulate = false): Trial {
  const t = {
    dy: given(`${label}.dy`, [N, OUT]),
    dx: given(`${label}.dx`, [N, IN]),
    weight: weight(format, label),
    ...(format === "nf4" && {
      q: given(`${label}.q`, [N, RANK]),
      a: given(`${label}.a`, [RANK, IN]),
      scale_bias: given(`${label}.scale_bias`, [OUT, 1]),
    }),
  };
  const call = callProductBackward(label, t, {
    N,
    rank: t.q ? RANK : 0,
    half: true,
    ...(accumulate && { accumulate }),
  });
  return { call, tolerance: ROUNDED };
}

/** Packed sequences, the first longer than a tile. */
const LENGTHS = [70, 35];
const [HEADS, KV_HEADS] = [4, 2];

function attention(headDim: number): readonly Trial[] {
  const N = LENGTHS.reduce((a, b) => a + b);
  const name = `attention of ${headDim}`;
  const wide = (of: string): Tensor => given(`${name}.${of}`, [N, HEADS * headDim]);
  const narrow = (of: string): Tensor => given(`${name}.${of}`, [N, KV_HEADS * headDim]);
  const inputs = {
    q: wide("q"),
    k: narrow("k"),
    v: narrow("v"),
    spans: given(`${name}.spans`, [N, 2], "u32"),
  };
  const more = { ...inputs, d_o: wide("d_o"), statistics: given(`${name}.statistics`, [N, HEADS, 2]) };
  const s = {
    N,
    heads: HEADS,
    kvHeads: KV_HEADS,
    headDim,
    scale: 1 / Math.sqrt(headDim),
    window: 0,
    half: true,
  };
  const o = { o: wide("o"), lse: given(`${name}.lse`, [N, HEADS]) };
  const d_kv = { d_k: narrow("d_k"), d_v: narrow("d_v") };
  return [
    callAttentionForward(`${name} forward`, { ...inputs, ...o }, { ...s, queryRow: 0 }),
    callAttentionBackwardQ(`${name} backward_q`, { ...more, d_q: wide("d_q") }, { ...s, queryRow: 0 }),
    callAttentionBackwardKv(`${name} backward_kv`, { ...more, ...d_kv }, s),
  ].map((call) => ({ call, tolerance: ATTENTION }));
}

/** The kinds of calls that training has on matrices. */
export const TRIALS: readonly Trial[] = [
  forward("product forward", MANY, "nf4", true),
  forward("product forward of few rows", FEW, "nf4", true),
  forward("split product forward", MANY, "nf4", "split"),
  forward("split product forward of bf16", MANY, "bf16", "split"),
  forward("split product forward of a head", MANY, "bf16", "split", true),
  backward("product backward", MANY, "nf4"),
  backward("product backward, added", FEW, "nf4", true),
  backward("product backward of a head", MANY, "bf16"),
  ...attention(64),
  ...attention(128),
];

const variantOf = (call: Call, name: string, traits: AdapterTraits): Variant | undefined =>
  call.kernel.variants.find((v) => v.name === name && v.accepts(call, traits));

/** The shaders that are tried on an adapter: another text may come to other numbers. */
export const triedText = (traits: AdapterTraits, trials = TRIALS): string =>
  trials
    .flatMap(({ call }) => ON_MATRICES.map((name) => ({ call, variant: variantOf(call, name, traits) })))
    .map(({ call, variant }) => (variant ? expandWgsl(variant.file, variant.defines(call, traits)) : ""))
    .join();

/** Bits of 256 levels, their offset and the scales of groups, then a byte for each block. */
function absmaxOf(words: number, random: RandomSource): Uint32Array {
  const { codesWord } = doubleQuantLayout((OUT * IN) / BLOCK);
  const packed = Uint32Array.from({ length: words }, () => random.nextU32());
  const floats = new Float32Array(packed.buffer, 0, codesWord);
  for (let i = 0; i < codesWord; i++) floats[i] = i < 256 ? (i - 127.5) / 128 : i === 256 ? 1.5 : 0.75;
  return packed;
}

/** Seeded values of a tensor, by what it is in its call. */
function valuesOf(binding: string, t: Tensor, seed: number): Uint8Array {
  const random = new RandomSource(seed, 0);
  const count = elementCount(t);
  const u32 = (of: (i: number) => number): Uint32Array =>
    Uint32Array.from({ length: count }, (_, i) => of(i));
  const f32 = (of: (i: number) => number): Float32Array =>
    Float32Array.from({ length: count }, (_, i) => of(i));
  const uniform = (): number => 2 * random.nextUniform() - 1;
  const [first = 0] = LENGTHS;
  const startOf = (row: number): number => (row < first ? 0 : first);
  const special: Readonly<Record<string, () => ArrayBufferView>> = {
    codes: () => u32(() => random.nextU32()),
    absmax: () => absmaxOf(count, random),
    spans: () => u32((i) => (i % 2 === 0 ? startOf(i >> 1) : i >> 1 < first ? first : count / 2)),
    // lse and delta of each row and head: about as many keys as the row sees.
    statistics: () =>
      f32((i) => {
        const row = Math.floor(i / (2 * HEADS));
        return i % 2 === 0 ? Math.log(row - startOf(row) + 1) + 0.1 : uniform();
      }),
  };
  const made = special[binding]?.() ?? (t.dtype === "bf16" ? f32ToBf16(f32(uniform)) : f32(uniform));
  return new Uint8Array(made.buffer, made.byteOffset, made.byteLength);
}

/** Runs trials by one variant. @returns what each call leaves in the tensors that it writes; what it does not write is NaN */
async function run(
  executor: Executor,
  program: Program,
  trials: readonly Trial[],
): Promise<ReadonlyMap<Trial, Float32Array>> {
  await executor.load([program], (call, accepted) => {
    const variant = accepted.find((v) => v.name === program.name);
    if (!variant) throw new Error(`${call.label} has no ${program.name}`);
    return variant;
  });
  for (const { call } of trials) {
    for (const [seed, [binding, t]] of Object.entries(call.tensors).entries()) {
      const isWritten = call.kernel.bindings[binding] === "write";
      const nothing = (): Uint8Array => new Uint8Array(tensorBytes(t)).fill(255);
      await executor.write(t, isWritten ? nothing() : valuesOf(binding, t, seed));
    }
  }
  await executor.run(program, { afterUpdate: true });
  const results = new Map<Trial, Float32Array>();
  for (const trial of trials) {
    const { tensors, kernel } = trial.call;
    const bytes: ArrayBuffer[] = [];
    for (const [binding, t] of Object.entries(tensors))
      if (kernel.bindings[binding] !== "read") bytes.push(await executor.read(t));
    results.set(trial, new Float32Array(await new Blob(bytes).arrayBuffer()));
  }
  return results;
}

/** Largest difference relative to the largest wanted value; NaN where anything is. */
function difference(got: Float32Array, want: Float32Array): number {
  let [largest, worst] = [0, 0];
  for (const [i, w] of want.entries()) {
    largest = Math.max(largest, Math.abs(w));
    worst = Math.max(worst, Math.abs((got[i] ?? NaN) - w));
  }
  return worst / largest;
}

/**
 * Runs all trials that the adapter's matrices accept. Takes some MB on the GPU, and a second, most of it for compiling.
 * @returns what was off, by which variant and how far; empty where all was right
 */
export async function tryMatrices(gpu: Gpu, trials = TRIALS): Promise<readonly string[]> {
  const passes = ON_MATRICES.map((name) => ({
    name,
    trials: trials.filter(({ call }) => variantOf(call, name, gpu.traits) !== undefined),
  })).filter((pass) => pass.trials.length > 0);
  const tried = trials.filter((t) => passes.some((pass) => pass.trials.includes(t)));
  const all = [{ name: PLAIN, trials: tried }, ...passes];
  const programs = all.map((pass) => ({ name: pass.name, calls: pass.trials.map(({ call }) => call) }));
  const executor = await Executor.allocate(gpu, planMemory(programs, 1 << 20));
  try {
    const results = [];
    for (const [i, program] of programs.entries())
      results.push(await run(executor, program, all[i]?.trials ?? []));
    gpu.check();
    const [plain, ...onMatrices] = results;
    const faults: string[] = [];
    for (const [i, ofPass] of onMatrices.entries()) {
      for (const [trial, got] of ofPass) {
        const off = difference(got, plain?.get(trial) ?? new Float32Array());
        // Not below the limit: NaN is wrong too.
        if (!(off <= trial.tolerance))
          faults.push(
            `${trial.call.label} (${passes[i]?.name}) by ${Number.isNaN(off) ? "NaN" : off.toPrecision(2)}`,
          );
      }
    }
    return faults;
  } finally {
    await executor.release();
  }
}
