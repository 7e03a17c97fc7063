/**
 * Rotary position embedding (Su et al., arXiv 2104.09864): frequencies and the cos/sin table, with the scalings linear,
 * llama3 and YaRN (arXiv 2309.00071), in the f32 steps of transformers' modeling_rope_utils.
 */
import { z } from "zod";
import { QdoraError } from "../formats/error.js";
import { quoted } from "../formats/json.js";

interface Scaling {
  readonly theta: number;
  /** cos and sin are multiplied by it; 1 except for yarn. */
  readonly attentionFactor: number;
}

interface Llama3 extends Scaling {
  readonly type: "llama3";
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  /** Context length of the pretraining. */
  readonly originalPositions: number;
}

interface Yarn extends Scaling {
  readonly type: "yarn";
  readonly factor: number;
  /** Rotations over the original context above which a frequency stays, and below which it is divided by the factor. */
  readonly betaFast: number;
  readonly betaSlow: number;
  /** Whether the ramp between them starts and ends at whole dimensions. */
  readonly truncate: boolean;
  readonly originalPositions: number;
}

export type RopeParameters =
  | (Scaling & { readonly type: "default" })
  | (Scaling & { readonly type: "linear"; readonly factor: number })
  | Llama3
  | Yarn;

/** The fields of config.json that matter here. */
export interface RopeConfig {
  readonly max_position_embeddings: number;
  readonly original_max_position_embeddings?: unknown;
  readonly rope_theta?: number | null | undefined;
  /** The older name; where both are there, it wins. */
  readonly rope_scaling?: Readonly<Record<string, unknown>> | null | undefined;
  readonly rope_parameters?: Readonly<Record<string, unknown>> | null | undefined;
  readonly layer_types?: readonly string[] | null | undefined;
}

const number = z.number().positive();

const schema = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: number.nullish(),
  partial_rotary_factor: number.nullish(),
  factor: number.nullish(),
  original_max_position_embeddings: number.nullish(),
  low_freq_factor: number.nullish(),
  high_freq_factor: number.nullish(),
  attention_factor: number.nullish(),
  mscale: z.number().nullish(),
  mscale_all_dim: z.number().nullish(),
  beta_fast: z.number().min(0).nullish(),
  beta_slow: z.number().min(0).nullish(),
  truncate: z.boolean().nullish(),
});

const filled = (record: Readonly<Record<string, unknown>> | null | undefined): boolean =>
  record != null && Object.keys(record).length > 0;

/**
 * @param config fields of config.json
 * @param path of config.json, for errors
 * @throws QdoraError naming the field that is missing, wrong or not supported
 */
export function ropeParameters(config: RopeConfig, path: string): RopeParameters {
  const group = filled(config.rope_scaling) || !config.rope_parameters ? "rope_scaling" : "rope_parameters";
  const given = config[group] ?? {};
  const refuse = (field: string, fact: string, hint?: string): never => {
    throw new QdoraError(path, `${group}.${field}: ${fact}`, hint);
  };
  const perLayer = (config.layer_types ?? []).find((type) => type in given);
  if (perLayer !== undefined)
    refuse(
      perLayer,
      "rotary embeddings that differ between layers are not supported",
      "choose another model",
    );
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return refuse(
      issue?.path.join(".") ?? "",
      issue?.message ?? "not understood",
      "download config.json again",
    );
  }
  const p = parsed.data;
  if ((p.partial_rotary_factor ?? 1) !== 1)
    refuse("partial_rotary_factor", `got ${p.partial_rotary_factor} (supported: 1)`, "choose another model");
  const theta = p.rope_theta ?? config.rope_theta ?? 10000;
  if (theta <= 1)
    throw new QdoraError(path, `rope_theta: got ${theta}, must be above 1`, "download config.json again");
  const need = (field: "factor" | "low_freq_factor" | "high_freq_factor"): number =>
    p[field] ?? refuse(field, "missing", `rope type ${type} needs it; download config.json again`);
  const originalPositions = (): number => {
    const outside = number.nullish().safeParse(config.original_max_position_embeddings);
    if (!outside.success)
      throw new QdoraError(
        path,
        `original_max_position_embeddings: ${outside.error.issues[0]?.message}`,
        "download config.json again",
      );
    return outside.data ?? p.original_max_position_embeddings ?? config.max_position_embeddings;
  };
  const type = p.rope_type ?? p.type ?? "default";
  switch (type) {
    case "default":
      return { type, theta, attentionFactor: 1 };
    case "linear":
      return { type, theta, attentionFactor: 1, factor: need("factor") };
    case "llama3": {
      const [low, high] = [need("low_freq_factor"), need("high_freq_factor")];
      if (high <= low)
        refuse(
          "high_freq_factor",
          `got ${high}, must be above low_freq_factor ${low}`,
          "download config.json again",
        );
      return {
        type,
        theta,
        attentionFactor: 1,
        factor: need("factor"),
        lowFreqFactor: low,
        highFreqFactor: high,
        originalPositions: originalPositions(),
      };
    }
    case "yarn": {
      const original = originalPositions();
      const factor = p.factor === null ? config.max_position_embeddings / original : need("factor");
      return {
        type,
        theta,
        attentionFactor: p.attention_factor ?? yarnAttentionFactor(factor, p.mscale, p.mscale_all_dim),
        factor,
        betaFast: p.beta_fast || 32,
        betaSlow: p.beta_slow || 1,
        truncate: p.truncate === undefined ? true : p.truncate === true,
        originalPositions: original,
      };
    }
    default:
      return refuse(
        p.rope_type == null ? "type" : "rope_type",
        `got ${quoted(type)} (supported: default, linear, llama3, yarn)`,
        "choose another model",
      );
  }
}

function yarnAttentionFactor(
  factor: number,
  mscale: number | null | undefined,
  mscaleAllDim: number | null | undefined,
): number {
  const scale = (m: number): number => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);
  return mscale && mscaleAllDim ? scale(mscale) / scale(mscaleAllDim) : scale(1);
}

const f = Math.fround;

/** Angle per position of each pair of dimensions. @returns [headDim / 2] f32 */
export function inverseFrequencies(rope: RopeParameters, headDim: number): Float32Array {
  const base = f(rope.theta);
  const wavelengths = Float32Array.from({ length: headDim / 2 }, (_, i) => base ** f((2 * i) / headDim));
  const plain = wavelengths.map((w) => 1 / w);
  switch (rope.type) {
    case "default":
      return plain;
    case "linear":
      return plain.map((v) => v / f(rope.factor));
    case "llama3":
      return plain.map((v) => llama3Frequency(rope, v));
    case "yarn": {
      const ramp = yarnRamp(rope, headDim);
      return plain.map((v, i) => {
        const kept = f(1 - ramp(i));
        const divided = f(1 / f(f(rope.factor) * (wavelengths[i] ?? 0)));
        return f(divided * f(1 - kept)) + f(v * kept);
      });
    }
    default:
      throw new Error(`unknown rope type ${String(rope satisfies never)}`);
  }
}

/** Short waves stay, long ones are divided by the factor, and between them it goes over smoothly. */
function llama3Frequency(rope: Llama3, v: number): number {
  const { lowFreqFactor: low, highFreqFactor: high, originalPositions: original } = rope;
  // torch divides a number by a tensor as reciprocal times number.
  const wavelength = f(f(1 / v) * f(2 * Math.PI));
  if (wavelength < f(original / high)) return v;
  const divided = f(v / f(rope.factor));
  if (wavelength > f(original / low)) return divided;
  const smooth = f(f(f(f(1 / wavelength) * f(original)) - f(low)) / f(high - low));
  return f(f(f(f(1 - smooth) * v) / f(rope.factor)) + f(smooth * v));
}

/** 0 for pairs of dimensions that stay, 1 for those that are divided by the factor, a line between. */
function yarnRamp(rope: Yarn, headDim: number): (i: number) => number {
  const dimension = (rotations: number): number =>
    (headDim * Math.log(rope.originalPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const [low, high] = [dimension(rope.betaFast), dimension(rope.betaSlow)];
  const from = Math.max(rope.truncate ? Math.floor(low) : low, 0);
  const to = Math.min(rope.truncate ? Math.ceil(high) : high, headDim - 1);
  const width = f(from === to ? from + 0.001 - from : to - from);
  return (i) => Math.min(1, Math.max(0, f(f(i - f(from)) / width)));
}

/** @returns [positions, headDim / 2, 2] cos and sin times the attention factor, f32 */
export function ropeTable(rope: RopeParameters, headDim: number, positions: number): Float32Array {
  const frequencies = inverseFrequencies(rope, headDim);
  const scale = f(rope.attentionFactor);
  const table = new Float32Array(positions * headDim);
  let at = 0;
  for (let position = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      const angle = f(position * frequency);
      table[at++] = f(Math.cos(angle)) * scale;
      table[at++] = f(Math.sin(angle)) * scale;
    }
  }
  return table;
}
