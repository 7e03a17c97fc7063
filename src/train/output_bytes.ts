/** What a run writes into its output folder. */
import type { AdapterLayout } from "../adapter/layout.js";
import { wholeMoments } from "../adapter/moments.js";
import { tensorBytes } from "../program/tensor.js";

/** Bytes of the least that a run's end writes: its last checkpoint, which has the adapter and the moments, and the adapter. */
export const outputBytes = ({ arenas }: AdapterLayout): number =>
  arenas.reduce(
    (sum, { parameter, moments }) =>
      sum +
      2 * tensorBytes(parameter) +
      wholeMoments(moments).reduce((bytes, t) => bytes + tensorBytes(t), 0),
    0,
  );
