/** Two models on the GPU, one after the other, over the same token ids: how far their logits are apart. */
import { loadTokenizer } from "../data/tokenizer.js";
import { readArchitecture } from "../model/config.js";
import { Generator, type GeneratorOptions } from "./generator.js";
import { argmax } from "./sample.js";

export interface LogitComparison {
  /** Tokens after which logits were compared. */
  readonly positions: number;
  readonly largestDifference: number;
  /** The largest magnitude of a logit of the first model: the scale of the difference. */
  readonly largestLogit: number;
  /** Positions where both find the same token likeliest. */
  readonly sameChoice: number;
}

export type ComparedModel = Omit<GeneratorOptions, "context">;

const TEXTS = [
  "The capital of France is Paris, and the capital of",
  "def add(a, b):\n    return a + b\n",
  "In 1969, two people walked on the Moon. They",
];
const MAX_TOKENS = 16;
/** For models without a tokenizer: some ids of any vocabulary. */
const IDS_WITHOUT_TOKENIZER = [7, 101, 60013].map((step) =>
  Array.from({ length: MAX_TOKENS }, (_, i) => 5 + i * step),
);

/** A few short prompts as token ids of this model. */
export async function comparisonPrompts(model: string): Promise<readonly (readonly number[])[]> {
  const { vocab } = await readArchitecture(model);
  const tokenizer = await loadTokenizer(model).catch(() => undefined);
  const prompts = tokenizer ? TEXTS.map((text) => tokenizer.encode(text)) : IDS_WITHOUT_TOKENIZER;
  return prompts.map((ids) => ids.slice(0, MAX_TOKENS).map((id) => id % vocab));
}

async function logitsOf(
  model: ComparedModel,
  prompts: readonly (readonly number[])[],
): Promise<readonly Float32Array[]> {
  const context = Math.max(...prompts.map((ids) => ids.length));
  const generator = await Generator.open({ ...model, context });
  try {
    const logits: Float32Array[] = [];
    for (const ids of prompts) {
      generator.reset();
      for (const id of ids) logits.push(await generator.feed([id]));
    }
    return logits;
  } finally {
    await generator.close();
  }
}

/** @param prompts token ids; logits are compared after each token */
export async function compareLogits(
  first: ComparedModel,
  second: ComparedModel,
  prompts: readonly (readonly number[])[],
): Promise<LogitComparison> {
  const want = await logitsOf(first, prompts);
  const got = await logitsOf(second, prompts);
  let [largestDifference, largestLogit, sameChoice] = [0, 0, 0];
  for (const [i, a] of want.entries()) {
    const b = got[i] ?? new Float32Array();
    for (let k = 0; k < a.length; k++) {
      const difference = Math.abs(a[k]! - b[k]!);
      // A difference that is no number counts as the largest there is.
      if (!(difference <= largestDifference))
        largestDifference = Number.isNaN(difference) ? Infinity : difference;
      largestLogit = Math.max(largestLogit, Math.abs(a[k]!));
    }
    if (argmax(a) === argmax(b)) sameChoice++;
  }
  return { positions: want.length, largestDifference, largestLogit, sameChoice };
}
