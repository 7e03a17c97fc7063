/** The costing reader: floating point operations and bytes of a program, by kernel. */
import type { Cost, Program } from "./kernel.js";

export interface ProgramCost extends Cost {
  readonly calls: number;
  readonly byKernel: ReadonlyMap<string, Cost & { readonly calls: number }>;
}

/** Adds up what a program costs with the sizes it was built for. */
export function programCost(program: Program): ProgramCost {
  const byKernel = new Map<string, { calls: number; flops: number; bytes: number }>();
  const total = { calls: 0, flops: 0, bytes: 0 };
  for (const call of program.calls) {
    const cost = call.kernel.cost(call);
    const row = byKernel.get(call.kernel.name) ?? { calls: 0, flops: 0, bytes: 0 };
    byKernel.set(call.kernel.name, row);
    for (const sum of [row, total]) {
      sum.calls += 1;
      sum.flops += cost.flops;
      sum.bytes += cost.bytes;
    }
  }
  return { ...total, byKernel };
}
