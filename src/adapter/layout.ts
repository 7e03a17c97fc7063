/**
 * Where the trained parameters lie: one arena per decoder layer, factors first and magnitudes last, and the same layout
 * for gradients. So the optimizer is one call or two per layer, and weight decay ends at one element.
 */
import { tensor, type Kind, type Tensor } from "../program/tensor.js";
import {
  BINDING_ALIGN,
  byteMoments,
  factorAlign,
  floatMoments,
  wholeMoments,
  type ArenaMoments,
  type MomentBits,
} from "./moments.js";
import type { AdapterSettings, ModuleShape, TargetedModule } from "./targets.js";

export interface FactorTensors {
  /** [rank, in] */
  readonly a: Tensor;
  /** [out, rank] */
  readonly b: Tensor;
  /** [out]; DoRA only. */
  readonly magnitude?: Tensor;
}

export interface ModuleAdapter extends ModuleShape {
  readonly rank: number;
  readonly alpha: number;
  readonly scaling: number;
  readonly parameters: FactorTensors;
  readonly gradients: FactorTensors;
}

export interface AdapterArena {
  readonly layer: number;
  /** Elements (f32), padding included. */
  readonly elements: number;
  /** Elements before this one are factors and decay; magnitudes follow. */
  readonly decayEnd: number;
  readonly parameter: Tensor;
  readonly gradient: Tensor;
  readonly moments: ArenaMoments;
}

export interface AdapterLayout {
  readonly settings: AdapterSettings;
  readonly modules: ReadonlyMap<string, ModuleAdapter>;
  readonly arenas: readonly AdapterArena[];
  /** Trained numbers, padding not counted. */
  readonly parameterCount: number;
}

/** All memory of an arena: parameters, gradients and moments, each as a whole. */
export const stateTensors = ({ parameter, gradient, moments }: AdapterArena): readonly Tensor[] => [
  parameter,
  gradient,
  ...wholeMoments(moments),
];

const aligned = (elements: number, to: number): number => Math.ceil(elements / to) * to;

type Part = "a" | "b" | "magnitude";

/** Lays out the adapters of the targeted modules. `layerOf` groups them into arenas. `bits`: what the factors' moments are kept in. */
export function adapterLayout<M extends ModuleShape>(
  targets: readonly TargetedModule<M>[],
  settings: AdapterSettings,
  layerOf: (module: M) => number,
  bits: MomentBits = 32,
): AdapterLayout {
  const align = factorAlign(bits);
  const modules = new Map<string, ModuleAdapter>();
  const arenas: AdapterArena[] = [];
  let parameterCount = 0;
  const layers = [...new Set(targets.map((t) => layerOf(t.module)))].toSorted((x, y) => x - y);
  for (const layer of layers) {
    const members = targets.filter((t) => layerOf(t.module) === layer);
    const offsets = new Map<string, number>();
    let at = 0;
    // Factors A one after the other: those of modules that share their input are one matrix (shared_input.ts).
    for (const t of members) {
      offsets.set(`${t.module.path} a`, at);
      at += aligned(t.rank * t.module.in, align);
    }
    for (const t of members) {
      offsets.set(`${t.module.path} b`, at);
      at += aligned(t.rank * t.module.out, align);
    }
    const decayEnd = at;
    if (settings.useDora) {
      for (const t of members) {
        offsets.set(`${t.module.path} magnitude`, at);
        at += aligned(t.module.out, BINDING_ALIGN);
      }
    }
    const elements = at;
    const view = (kind: Kind, prefix: string, path: string, part: Part, shape: readonly number[]): Tensor =>
      tensor(`${prefix}.${path}.${part}`, shape, "f32", kind, {
        name: `${prefix}.${layer}`,
        bytes: elements * 4,
        offsetBytes: (offsets.get(`${path} ${part}`) ?? 0) * 4,
      });
    const whole = (kind: Kind, prefix: string): Tensor =>
      tensor(`${prefix}.${layer}`, [elements], "f32", kind, {
        name: `${prefix}.${layer}`,
        bytes: elements * 4,
        offsetBytes: 0,
      });
    const factors = (kind: Kind, prefix: string, t: TargetedModule<M>): FactorTensors => {
      const { path, in: inputs, out } = t.module;
      const pair = {
        a: view(kind, prefix, path, "a", [t.rank, inputs]),
        b: view(kind, prefix, path, "b", [out, t.rank]),
      };
      return settings.useDora ? { ...pair, magnitude: view(kind, prefix, path, "magnitude", [out]) } : pair;
    };
    for (const t of members) {
      const { path, in: inputs, out } = t.module;
      parameterCount += t.rank * (inputs + out) + (settings.useDora ? out : 0);
      modules.set(path, {
        path,
        in: inputs,
        out,
        rank: t.rank,
        alpha: t.alpha,
        scaling: t.scaling,
        parameters: factors("adapter", "adapter", t),
        gradients: factors("gradient", "gradient", t),
      });
    }
    const [parameter, gradient] = [whole("adapter", "adapter"), whole("gradient", "gradient")];
    const moments =
      bits === 8
        ? byteMoments(layer, { parameter, gradient, decayEnd, elements })
        : floatMoments(layer, elements);
    arenas.push({ layer, elements, decayEnd, parameter, gradient, moments });
  }
  return { settings, modules, arenas, parameterCount };
}
