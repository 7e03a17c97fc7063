/** SwiGLU: y = silu(gate) * up (Shazeer 2020), elementwise. */
import type { AdapterTraits } from "../gpu/traits.js";
import {
  bound,
  size,
  type Call,
  type Defines,
  type Kernel,
  type TwinMemory,
  type Variant,
} from "../program/kernel.js";
import { elementCount, type Tensor } from "../program/tensor.js";
import { elementVariants, softwareLanes } from "./elements.js";
import { isTimed, sharedTokens } from "./split.js";

const elements = (file: string): readonly Variant[] => elementVariants(file, (call) => size(call, "count"));

/** The most columns of a lane on a software adapter, and how many workgroups keep its cores busy. */
const MOST_COLUMNS = 48;
const FEWEST_WORKGROUPS = 2;

/** Long parts of rows, of which there are enough. */
function softwareColumns(call: Call, traits: AdapterTraits): Defines {
  const LANES = softwareLanes(traits);
  const columns = Math.ceil(size(call, "width") / LANES);
  return { ...call.options, LANES, COLS: Math.min(MOST_COLUMNS, Math.ceil(columns / FEWEST_WORKGROUPS)) };
}

const columnTiles: Variant["grid"] = (call, d) => [
  Math.ceil(size(call, "width") / (Number(d["LANES"]) * Number(d["COLS"] ?? 1))),
  1,
  1,
];

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

export const swigluForward: Kernel = {
  name: "swiglu_forward",
  bindings: { gate: "read", up: "read", y: "write" },
  variants: elements("swiglu_forward.wgsl"),
  twin(memory, call) {
    const [gate, up, y] = [bound(memory, "gate"), bound(memory, "up"), bound(memory, "y")];
    for (let i = 0; i < size(call, "count"); i++) y[i] = gate[i]! * sigmoid(gate[i]!) * up[i]!;
  },
  cost: (call) => ({ flops: 6 * size(call, "count"), bytes: 12 * size(call, "count") }),
};

/** The gradients of gate and up. */
function gradients(gate: number, up: number, dy: number): readonly [number, number] {
  const s = sigmoid(gate);
  return [dy * up * s * (1 + gate * (1 - s)), dy * gate * s];
}

export const swigluBackward: Kernel = {
  name: "swiglu_backward",
  bindings: { gate: "update", up: "read", d: "update" },
  variants: elements("swiglu_backward.wgsl"),
  twin(memory, call) {
    const [gate, up, d] = [bound(memory, "gate"), bound(memory, "up"), bound(memory, "d")];
    for (let i = 0; i < size(call, "count"); i++) [gate[i], d[i]] = gradients(gate[i]!, up[i]!, d[i]!);
  },
  cost: (call) => ({ flops: 12 * size(call, "count"), bytes: 20 * size(call, "count") }),
};

/** What the twin adds up for one module: += sum of dy (y - bias) / m. */
function magnitudeSums(memory: TwinMemory, call: Call, of: "gate" | "up"): (j: number, sum: number) => void {
  const magnitude = memory[`m_${of}`];
  if (!magnitude) return () => undefined;
  const gradient = bound(memory, "gradient").subarray(size(call, `${of}At`));
  return (j, sum) => {
    if (magnitude[j] !== 0) gradient[j] = gradient[j]! + sum / magnitude[j]!;
  };
}

export const swigluBackwardMagnitudes: Kernel = {
  name: "swiglu_backward_magnitudes",
  bindings: {
    gate: "update",
    up: "read",
    d: "update",
    gradient: "update",
    m_gate: "read",
    scale_bias_gate: "read",
    m_up: "read",
    scale_bias_up: "read",
  },
  variants: [
    {
      name: "software",
      file: "swiglu_backward_magnitudes_software.wgsl",
      accepts: (_, traits) => traits.isSoftware,
      defines: softwareColumns,
      grid: columnTiles,
    },
    {
      name: "column",
      file: "swiglu_backward_magnitudes.wgsl",
      accepts: () => true,
      isTimed,
      defines: (call) => ({ ...call.options, ...sharedTokens(size(call, "width")) }),
      grid: columnTiles,
    },
  ],
  twin(memory, call) {
    const [gate, up, d] = [bound(memory, "gate"), bound(memory, "up"), bound(memory, "d")];
    const [N, width] = [size(call, "N"), size(call, "width")];
    const [addGate, addUp] = [magnitudeSums(memory, call, "gate"), magnitudeSums(memory, call, "up")];
    for (let j = 0; j < width; j++) {
      const bias = (name: string): number => memory[name]?.[2 * j + 1] ?? 0;
      const [gateBias, upBias] = [bias("scale_bias_gate"), bias("scale_bias_up")];
      let [ofGate, ofUp] = [0, 0];
      for (let at = j; at < N * width; at += width) {
        const [g, u] = gradients(gate[at]!, up[at]!, d[at]!);
        ofGate += g * (gate[at]! - gateBias);
        ofUp += u * (up[at]! - upBias);
        [gate[at], d[at]] = [g, u];
      }
      addGate(j, ofGate);
      addUp(j, ofUp);
    }
  },
  cost: (call) => {
    const [N, width] = [size(call, "N"), size(call, "width")];
    return { flops: 18 * N * width, bytes: 20 * N * width + 24 * width };
  },
};

/** @param t gate, up and y: f32 [count] */
export function callSwigluForward(
  label: string,
  t: { readonly gate: Tensor; readonly up: Tensor; readonly y: Tensor },
  sizes: { readonly count: number },
): Call {
  return { kernel: swigluForward, label, tensors: { ...t }, sizes, options: {} };
}

/**
 * @param t.gate f32 [count]; afterwards its gradient
 * @param t.up f32 [count]
 * @param t.d f32 [count] the gradient of y; afterwards that of up
 */
export function callSwigluBackward(
  label: string,
  t: { readonly gate: Tensor; readonly up: Tensor; readonly d: Tensor },
  sizes: { readonly count: number },
): Call {
  return { kernel: swigluBackward, label, tensors: { ...t }, sizes, options: {} };
}

/** The DoRA magnitude of a module, and where its gradient is added up. */
export interface OwnMagnitude {
  /** f32 [width] */
  readonly magnitude: Tensor;
  /** f32 [width, 2] g, bias; or [width, 1] g, which nobody needs */
  readonly scale_bias: Tensor;
  /** Element of the arena at which its gradient begins. */
  readonly at: number;
}

export interface OwnMagnitudes {
  readonly gate: OwnMagnitude | undefined;
  readonly up: OwnMagnitude | undefined;
}

/**
 * As `callSwigluBackward`, with the gradients of the magnitudes of the modules that made gate and up, where they have one:
 * += sum_t d_gate (gate - bias) / m, and the same of up; 0 where m is 0.
 * @param t.gate, t.up, t.d f32 [N, width]
 * @param t.gradient f32, the arena of gradients
 */
export function callSwigluBackwardMagnitudes(
  label: string,
  t: { readonly gate: Tensor; readonly up: Tensor; readonly d: Tensor; readonly gradient: Tensor },
  modules: OwnMagnitudes,
  { N, width }: { readonly N: number; readonly width: number },
): Call {
  const { gate, up } = modules;
  const end = Math.max(gate?.at ?? 0, up?.at ?? 0) + width;
  if (end > elementCount(t.gradient)) throw new Error(`${label}: ${t.gradient.name} ends before ${end}`);
  const hasBias = (module: OwnMagnitude | undefined): boolean => module?.scale_bias.shape[1] === 2;
  return {
    kernel: swigluBackwardMagnitudes,
    label,
    tensors: {
      ...t,
      ...(gate && { m_gate: gate.magnitude }),
      ...(gate && hasBias(gate) && { scale_bias_gate: gate.scale_bias }),
      ...(up && { m_up: up.magnitude }),
      ...(up && hasBias(up) && { scale_bias_up: up.scale_bias }),
    },
    sizes: { N, width, ...(gate && { gateAt: gate.at }), ...(up && { upAt: up.at }) },
    options: {
      GATE: gate !== undefined,
      UP: up !== undefined,
      GATE_BIAS: hasBias(gate),
      UP_BIAS: hasBias(up),
    },
  };
}
