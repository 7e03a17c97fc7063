/**
 * A program with the sizes of one token count, ready to be recorded: its uniforms, and for each call where it begins on the
 * GPU. Made once for a token count and kept as long as the program object, so that a step computes and allocates nothing.
 */
import type { CompiledKernel } from "../gpu/pipelines.js";
import type { Call, Defines, Program, Variant } from "./kernel.js";
import { UNIFORM_STRIDE } from "./planner.js";
import { uniformBytes } from "./uniforms.js";

/** A call's variant, compiled, and its tensors. */
export interface Bound {
  readonly variant: Variant;
  readonly defines: Defines;
  readonly kernel: CompiledKernel;
  readonly group: GPUBindGroup;
}

/** What to do with a call. */
export const Step = {
  skip: 0,
  dispatch: 1,
  dispatchAfterUpdate: 2,
  transfer: 3,
  transferAfterUpdate: 4,
} as const;

export interface Recording {
  readonly uniforms: {
    /** Where the program's part of the uniform buffer starts. */
    readonly offsetBytes: number;
    readonly bytes: ArrayBuffer;
  };
  /** One of `Step` for each call. */
  readonly steps: Uint8Array;
  /** Workgroups of each call: x, y, z. */
  readonly grids: Uint32Array;
  readonly flops: Float64Array;
}

const NO_GRID = [0, 0, 0] as const;

function stepOf(call: Call, workgroups: number): number {
  const { kernel, onlyAfterUpdate } = call;
  if (kernel.transfer) return onlyAfterUpdate ? Step.transferAfterUpdate : Step.transfer;
  if (workgroups === 0) return Step.skip;
  return onlyAfterUpdate ? Step.dispatchAfterUpdate : Step.dispatch;
}

/**
 * @param bound one for each call, none for transfers: those of the program at full capacity
 * @param places each call's place in the uniform buffer
 * @throws Error where the program has another structure
 */
export function recordingOf(
  program: Program,
  bound: readonly (Bound | undefined)[],
  places: readonly number[],
): Recording {
  const { calls, name } = program;
  if (calls.length !== bound.length) throw new Error(`${name} has another structure than what was loaded`);
  const { first, bytes } = uniformBytes(
    program,
    places,
    bound.map((b) => b?.kernel.interface.sizes ?? []),
  );
  const steps = new Uint8Array(calls.length);
  const grids = new Uint32Array(3 * calls.length);
  const flops = new Float64Array(calls.length);
  for (const [i, call] of calls.entries()) {
    const own = bound[i];
    const grid = own ? own.variant.grid(call, own.defines) : NO_GRID;
    steps[i] = stepOf(call, grid[0] * grid[1] * grid[2]);
    grids.set(grid, 3 * i);
    if (own) flops[i] = call.kernel.cost(call).flops;
  }
  return { uniforms: { offsetBytes: first * UNIFORM_STRIDE, bytes }, steps, grids, flops };
}
