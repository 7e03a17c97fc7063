/** Learning rate of a step: linear warm-up, then linear, cosine or constant, as transformers' schedulers. */
export type Scheduler = "linear" | "cosine" | "constant";

export interface Schedule {
  readonly scheduler: Scheduler;
  readonly learningRate: number;
  readonly warmupSteps: number;
  readonly totalSteps: number;
}

/** @param step counted from 0; with warm-up the first step has rate 0 */
export function learningRateAt(s: Schedule, step: number): number {
  if (step < s.warmupSteps) return (s.learningRate * step) / s.warmupSteps;
  const progress = (step - s.warmupSteps) / Math.max(1, s.totalSteps - s.warmupSteps);
  switch (s.scheduler) {
    case "linear":
      return s.learningRate * Math.max(0, 1 - progress);
    case "cosine":
      return s.learningRate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
    case "constant":
      return s.learningRate;
    default:
      return s.scheduler satisfies never;
  }
}
