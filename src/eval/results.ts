/** What an evaluation found: by metric, with the base beside it where one was asked for, and item by item. */
import { IGNORED_LABEL } from "../data/row.js";
import { spread, type Part, type TaskPart, type TextPart } from "./part.js";
import {
  bootstrapInterval,
  mean,
  pairedAccuracy,
  ratio,
  type Mean,
  type PairedAccuracy,
} from "./statistics.js";

/** What one model said to a part. */
export interface PartAnswers {
  readonly losses: readonly number[];
  readonly texts: readonly string[];
}

export interface Metric extends Mean {
  readonly base?: Mean;
  /** The model (with its adapter) against the base. */
  readonly paired?: PairedAccuracy;
}

export interface Loss extends Mean {
  readonly base?: Mean;
  readonly paired?: {
    /** The model's minus the base's; below 0 the adapter helps. */
    readonly difference: number;
    readonly standardError: number | undefined;
    /** 95 %, from a bootstrap over rows. */
    readonly interval: readonly [number, number];
  };
}

interface Common {
  readonly name: string;
  /** Cut because they were too long. */
  readonly truncated: number;
  /** For the file of items. */
  readonly perItem: readonly Readonly<Record<string, unknown>>[];
}

export interface TaskResult extends Common {
  readonly kind: "task";
  readonly items: number;
  readonly metrics: Readonly<Record<string, Metric>>;
}

export interface TextResult extends Common {
  readonly kind: "text";
  readonly rows: number;
  readonly broken: number;
  /** Scored tokens and the bytes that they stand for. */
  readonly tokens: number;
  readonly bytes: number | undefined;
  /** Mean negative log-likelihood in nats. */
  readonly perToken: Loss;
  readonly perByte: Loss | undefined;
}

export type PartResult = TaskResult | TextResult;

/** @param base what the base said, where it is compared */
export function resultOf(part: Part, model: PartAnswers, base: PartAnswers | undefined): PartResult {
  return part.kind === "task" ? taskResult(part, model, base) : textResult(part, model, base);
}

function taskResult(part: TaskPart, model: PartAnswers, base: PartAnswers | undefined): TaskResult {
  const outcomes = part.outcomes(model.losses, model.texts);
  const others = base && part.outcomes(base.losses, base.texts);
  const metric = (name: string): Metric => {
    const values = outcomes.map(({ scores }) => scores[name] ?? NaN);
    const baseValues = others?.map(({ scores }) => scores[name] ?? NaN);
    return {
      ...mean(values),
      ...(baseValues && { base: mean(baseValues), paired: pairedAccuracy(values, baseValues) }),
    };
  };
  return {
    kind: "task",
    name: part.name,
    items: part.items.length,
    truncated: part.truncated,
    metrics: Object.fromEntries(part.metrics.map((name) => [name, metric(name)])),
    perItem: outcomes.map(({ scores, detail }, i) => ({
      task: part.name,
      item: i,
      ...part.items[i],
      ...scores,
      ...detail,
      ...(others && { base: { ...others[i]?.scores, ...others[i]?.detail } }),
    })),
  };
}

function textResult(part: TextPart, model: PartAnswers, base: PartAnswers | undefined): TextResult {
  const tokens = part.rows.map(({ labels }) =>
    labels.subarray(1).reduce((n, l) => n + Number(l !== IGNORED_LABEL), 0),
  );
  const loss = (weights: readonly number[]): Loss => {
    const found = ratio(spread(model.losses, weights));
    if (!base) return found;
    const differences = spread(
      model.losses.map((x, i) => x - (base.losses[i] ?? NaN)),
      weights,
    );
    const { value, standardError } = ratio(differences);
    return {
      ...found,
      base: ratio(spread(base.losses, weights)),
      paired: { difference: value, standardError, interval: bootstrapInterval(differences) },
    };
  };
  const { bytes } = part;
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  return {
    kind: "text",
    name: part.name,
    rows: part.rows.length,
    broken: part.broken,
    truncated: part.truncated,
    tokens: sum(tokens),
    bytes: bytes && sum(bytes),
    perToken: loss(tokens),
    perByte: bytes && sum(bytes) > 0 ? loss(bytes) : undefined,
    perItem: part.rows.map((_, i) => ({
      data: part.name,
      row: i,
      tokens: tokens[i],
      ...(bytes && { bytes: bytes[i] }),
      nll: model.losses[i],
      ...(base && { base: { nll: base.losses[i] } }),
    })),
  };
}
