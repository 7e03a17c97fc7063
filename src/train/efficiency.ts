/**
 * How much of a step its products and its dispatches explain.
 * Step efficiency = (sum over the step's products with frozen weights of FLOPs / rate alone) / step time. The rate alone is
 * that of the variant which runs in the step, for the same class of call (kernel, sizes, options), repeated with nothing between.
 * Dispatch overhead = dispatches of a step x time of one that does next to nothing: its recording, validation, submit, start
 * and the barrier before it, since each empty dispatch reads what the one before wrote.
 */
import type { Gpu } from "../gpu/device.js";
import { callConvertRows } from "../kernels/convert_rows.js";
import { isProductKernel } from "../kernels/product.js";
import { Executor, type ChooseVariant } from "../program/executor.js";
import type { Call, Program } from "../program/kernel.js";
import { planMemory } from "../program/planner.js";
import { tensor } from "../program/tensor.js";
import { callClass, chooseFrom, type VariantTable } from "../program/tuner.js";
import { median } from "./median.js";

export interface Overheads {
  /** Milliseconds that the products of a step take alone, one after the other. */
  readonly productMs: number;
  /** Milliseconds of one empty dispatch. */
  readonly emptyDispatchMs: number;
}

/** Work between two looks at the clock: long against submits and the waiting for the end, well below a second. */
const ROUND_FLOPS = { software: 2e9, hardware: 1e11 };
/** Calls of a program that repeats one; a submit of so many hides what it costs itself. */
const COPIES = 32;
const MOST_RUNS = 64;
const ROUNDS = 3;
const EMPTY_DISPATCHES = 128;
const EMPTY_RUNS = 8;

/** One class of product calls and how often a step has it. */
export interface ProductClass {
  readonly call: Call;
  readonly count: number;
}

/** The products of programs by class, in order of their first call. */
export function productClasses(programs: readonly Program[]): readonly ProductClass[] {
  const classes = new Map<string, ProductClass>();
  for (const call of programs.flatMap((p) => p.calls)) {
    if (!isProductKernel(call.kernel.name)) continue;
    const key = callClass(call);
    classes.set(key, { call: classes.get(key)?.call ?? call, count: (classes.get(key)?.count ?? 0) + 1 });
  }
  return [...classes.values()];
}

/** Times products and empty dispatches outside the step, in memory of their own beyond the ledger's budget. */
export async function measureOverheads(
  gpu: Gpu,
  step: readonly Program[],
  variants: VariantTable,
): Promise<Overheads> {
  const { budget } = gpu.ledger;
  gpu.ledger.budget = undefined;
  try {
    let productMs = 0;
    for (const { call, count } of productClasses(step))
      productMs += count * (await timeProduct(gpu, call, chooseFrom(variants)));
    const emptyDispatchMs = await timeAlone(gpu, emptyProgram(), EMPTY_RUNS, chooseFrom(new Map()));
    return { productMs, emptyDispatchMs };
  } finally {
    gpu.ledger.budget = budget;
  }
}

/** A call again and again, over tensors of its own: no call before it writes what it reads. */
function timeProduct(gpu: Gpu, call: Call, choose: ChooseVariant): Promise<number> {
  const tensors = Object.fromEntries(
    Object.entries(call.tensors).map(([name, t]) => [name, tensor(name, t.shape, t.dtype, "adapter")]),
  );
  const wanted =
    (gpu.traits.isSoftware ? ROUND_FLOPS.software : ROUND_FLOPS.hardware) / call.kernel.cost(call).flops;
  const copies = Math.min(COPIES, Math.ceil(wanted));
  const calls = Array.from({ length: copies }, () => ({ ...call, tensors }));
  const runs = Math.min(MOST_RUNS, Math.ceil(wanted / copies));
  return timeAlone(gpu, { name: "product", calls }, runs, choose);
}

/** Milliseconds of one call of a program: the median of a few rounds, after one that compiles. */
async function timeAlone(gpu: Gpu, program: Program, runs: number, choose: ChooseVariant): Promise<number> {
  const executor = await Executor.allocate(gpu, planMemory([program], 0));
  try {
    await executor.load([program], choose);
    const rounds: number[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const began = performance.now();
      for (let run = 0; run < runs; run++) await executor.run(program, { afterUpdate: true });
      await executor.idle();
      if (round > 0) rounds.push(performance.now() - began);
    }
    return median(rounds) / (runs * program.calls.length);
  } finally {
    await executor.release();
  }
}

/** Dispatches of one workgroup that copy 64 numbers to and fro. */
function emptyProgram(): Program {
  const here = tensor("here", [1, 64], "f32", "adapter");
  const there = tensor("there", [1, 64], "f32", "adapter");
  const calls = Array.from({ length: EMPTY_DISPATCHES }, (_, i) =>
    callConvertRows("empty", i % 2 === 0 ? { x: here, y: there } : { x: there, y: here }, {
      N: 1,
      width: 64,
    }),
  );
  return { name: "empty", calls };
}
