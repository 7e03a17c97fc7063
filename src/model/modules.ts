/** The linear modules of a decoder, by the names of the checkpoint: shapes, biases and roles. */
import type { Architecture } from "./config.js";

export const ROLES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"] as const;
export type Role = (typeof ROLES)[number];

export interface LinearModule {
  /** "model.layers.3.self_attn.q_proj" */
  readonly path: string;
  readonly layer: number;
  readonly role: Role;
  readonly in: number;
  readonly out: number;
  readonly bias: boolean;
}

const isAttention = (role: Role): boolean =>
  role === "q_proj" || role === "k_proj" || role === "v_proj" || role === "o_proj";

export const layerPath = (layer: number): string => `model.layers.${layer}`;

/** The seven linear modules of one layer. */
export function layerModules(arch: Architecture, layer: number): readonly LinearModule[] {
  const q = arch.heads * arch.headDim;
  const kv = arch.kvHeads * arch.headDim;
  const shapes: Record<Role, readonly [number, number, boolean]> = {
    q_proj: [arch.hidden, q, arch.qkvBias],
    k_proj: [arch.hidden, kv, arch.qkvBias],
    v_proj: [arch.hidden, kv, arch.qkvBias],
    o_proj: [q, arch.hidden, arch.outBias],
    gate_proj: [arch.hidden, arch.feedForward, arch.mlpBias],
    up_proj: [arch.hidden, arch.feedForward, arch.mlpBias],
    down_proj: [arch.feedForward, arch.hidden, arch.mlpBias],
  };
  return ROLES.map((role) => {
    const [inputs, outputs, bias] = shapes[role];
    const path = `${layerPath(layer)}.${isAttention(role) ? "self_attn" : "mlp"}.${role}`;
    return { path, layer, role, in: inputs, out: outputs, bias };
  });
}

/** All linear modules of the decoder layers, in order. */
export const allModules = (arch: Architecture): readonly LinearModule[] =>
  Array.from({ length: arch.layers }, (_, layer) => layerModules(arch, layer)).flat();
