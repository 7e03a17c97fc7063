/** The adapter's best product: the highest rate that any variant reaches on one large product. What profiles and benches compare with. */
import type { Gpu } from "../gpu/device.js";
import { timedVariants, Executor } from "../program/executor.js";
import type { Call, Program } from "../program/kernel.js";
import { planMemory } from "../program/planner.js";
import { tensor } from "../program/tensor.js";
import { callProductForward } from "./product.js";
import { doubleQuantLayout, type Weight } from "./weight.js";

export interface ProductPeak {
  readonly flopsPerSecond: number;
  /** Which product and variant it was: "f32 software". */
  readonly name: string;
  /** Tokens, inputs and outputs of the product. */
  readonly shape: { readonly N: number; readonly K: number; readonly M: number };
}

/** 1 GFLOP, some 20 ms of two CPU cores; 69 GFLOP elsewhere, some ms of a large GPU. */
const SOFTWARE_SHAPE = { N: 512, K: 1024, M: 1024 };
const SHAPE = { N: 2048, K: 4096, M: 4096 };
const REPEATS = 5;
const BLOCK = 64;

/**
 * Measures all variants over f32, bf16 and NF4 weights, f16 inputs included where the adapter has matrix units of its own: those of a
 * software adapter take thirty times as long as its own way.
 * Takes up to 210 MB on the GPU while it lasts (10 MB on a software adapter), beyond any budget of the ledger.
 */
export async function measureProductPeak(gpu: Gpu): Promise<ProductPeak> {
  const shape = gpu.traits.isSoftware ? SOFTWARE_SHAPE : SHAPE;
  const calls = peakCalls(shape, gpu.traits.isSoftware ? [false] : [false, true]);
  const program: Program = { name: "product peak", calls: calls.map(({ call }) => call) };
  const { budget } = gpu.ledger;
  gpu.ledger.budget = undefined;
  const executor = await Executor.allocate(gpu, planMemory([program], 0));
  try {
    let best = { ms: Infinity, name: "" };
    for (const { name, call } of calls) {
      for (const variant of timedVariants(call, gpu)) {
        const ms = await executor.measure(program.name, call, variant, REPEATS);
        if (ms < best.ms) best = { ms, name: `${name} ${variant.name}` };
      }
    }
    const flopsPerSecond = (2 * shape.N * shape.K * shape.M) / (best.ms / 1000);
    return { flopsPerSecond, name: best.name, shape };
  } finally {
    await executor.release();
    gpu.ledger.budget = budget;
  }
}

function peakCalls(
  { N, K, M }: ProductPeak["shape"],
  halves: readonly boolean[],
): readonly { name: string; call: Call }[] {
  const x = tensor("peak.x", [N, K], "f32", "adapter");
  const y = tensor("peak.y", [N, M], "f32", "adapter");
  const blocks = Math.ceil((M * K) / BLOCK);
  const dense = (format: "f32" | "bf16"): Weight => ({
    format,
    out: M,
    in: K,
    values: tensor(`peak.${format}`, [M, K], format, "weight"),
  });
  const nf4: Weight = {
    format: "nf4",
    out: M,
    in: K,
    blockSize: BLOCK,
    doubleQuant: true,
    codes: tensor("peak.codes", [M, Math.ceil(K / 8)], "u32", "weight"),
    absmax: tensor("peak.absmax", [doubleQuantLayout(blocks).words], "u32", "weight"),
  };
  return [dense("f32"), dense("bf16"), nf4].flatMap((weight) =>
    halves.map((half) => ({
      name: half ? `${weight.format} f16` : weight.format,
      call: callProductForward(`peak ${weight.format}`, { x, weight, y }, { N, half }),
    })),
  );
}
