/** What a run moves between host and GPU, as its plan says. */
import type { Call } from "../program/kernel.js";
import type { PlannedRun } from "./memory.js";

/**
 * Bytes of one micro-batch, with its share of what an optimizer step moves once.
 * @param accumulation micro-batches in an optimizer step
 */
export function transferBytes(
  { programs: [microBatch, optimizer] }: Pick<PlannedRun, "programs">,
  accumulation: number,
  isMeant: (call: Call) => boolean = () => true,
): number {
  let [always, once] = [0, 0];
  const count = (call: Call, isOnce: boolean): void => {
    const { bytes = 0 } = call.sizes;
    if (!call.kernel.transfer || !isMeant(call)) return;
    if (isOnce) once += bytes;
    else always += bytes;
  };
  for (const call of microBatch?.calls ?? []) count(call, call.onlyAfterUpdate === true);
  for (const call of optimizer?.calls ?? []) count(call, true);
  return always + once / accumulation;
}
