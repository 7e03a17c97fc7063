/** Logits -> the next token: greedy, or sampled with temperature, top-k and top-p as transformers orders them. */
import type { RandomSource } from "../program/random.js";

export interface Sampling {
  /** 0 = greedy. */
  readonly temperature: number;
  /** 0 = all. */
  readonly topK: number;
  /** 1 = all. */
  readonly topP: number;
}

/** Index of the largest logit; the lower index on a tie. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** Draws the next token. */
export function sampleToken(logits: Float32Array, s: Sampling, random: RandomSource): number {
  if (s.temperature === 0) return argmax(logits);
  let candidates = Array.from(logits.keys()).toSorted((a, b) => logits[b]! - logits[a]! || a - b);
  if (s.topK > 0) candidates = candidates.slice(0, s.topK);
  const top = logits[candidates[0] ?? 0] ?? 0;
  const weights = candidates.map((i) => Math.exp((logits[i]! - top) / s.temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let kept = 0;
  let mass = 0;
  // Tokens are kept while the mass before them is under top_p, so the first always is.
  while (kept < weights.length && (kept === 0 || mass / total < s.topP)) mass += weights[kept++]!;
  let draw = random.nextUniform() * mass;
  for (let i = 0; i < kept; i++) {
    draw -= weights[i]!;
    if (draw < 0) return candidates[i]!;
  }
  return candidates[kept - 1] ?? 0;
}
