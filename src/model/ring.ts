/**
 * Where streamed layers lie while they are on the GPU. They are of one shape, so a slot of a ring holds any of them: the
 * frozen tensors and, behind them, the adapter's parameters. Gradients and scales g have buffers of their own, for no call
 * may read and write one buffer. While the optimizer runs no weights are there: a layer's trained state takes the slot.
 */
import { stateTensors, type AdapterArena, type ModuleAdapter } from "../adapter/layout.js";
import { alignedBytes, type Tensor } from "../program/tensor.js";

/** Slots of the ring: one holds the layer at work, the other the next one. */
export const RING_SLOTS = 2;

export interface LayerRing {
  /** This layer and all after it are streamed. */
  readonly firstLayer: number;
  /** The trained state of streamed layers that have one, by layer. */
  readonly arenas: ReadonlyMap<number, AdapterArena>;
  /** Bytes of one layer's frozen tensors, the first in a slot. */
  readonly frozenBytes: number;
  /** Bytes of a slot: frozen tensors and parameters, or all that the optimizer needs of a layer. */
  readonly slotBytes: number;
  /** Bytes of one layer's gradients. */
  readonly gradientBytes: number;
  /** Bytes of one layer's scales. */
  readonly scaleBytes: number;
}

/** What a layer has beside its adapter. */
export interface LayerBytes {
  readonly frozen: number;
  readonly scales: number;
}

/** A ring for layers `firstLayer` and following: the largest of them decides. */
export function ringOf(
  firstLayer: number,
  layers: readonly LayerBytes[],
  arenas: readonly AdapterArena[],
): LayerRing {
  const streamed = arenas.filter((arena) => arena.layer >= firstLayer);
  const largest = (bytes: readonly number[]): number => Math.max(0, ...bytes);
  const frozenBytes = largest(layers.map((l) => l.frozen));
  const parameterBytes = largest(streamed.map((a) => alignedBytes(a.parameter)));
  const updateBytes = largest(
    streamed.map((a) => stateTensors(a).reduce((sum, t) => sum + alignedBytes(t), 0)),
  );
  return {
    firstLayer,
    arenas: new Map(streamed.map((a) => [a.layer, a])),
    frozenBytes,
    slotBytes: Math.max(frozenBytes + parameterBytes, updateBytes),
    gradientBytes: largest(streamed.map((a) => alignedBytes(a.gradient))),
    scaleBytes: largest(layers.map((l) => l.scales)),
  };
}

/** The tensor in its layer's slot, from `offsetBytes` on. */
export const inSlot = (t: Tensor, layer: number, ring: LayerRing, offsetBytes: number): Tensor => ({
  ...t,
  arena: { name: `layer slot ${layer % RING_SLOTS}`, bytes: ring.slotBytes, offsetBytes },
});

/** The tensor in the buffer of gradients. */
export const inGradients = (t: Tensor, ring: LayerRing, offsetBytes = 0): Tensor => ({
  ...t,
  arena: { name: "gradient slot", bytes: ring.gradientBytes, offsetBytes },
});

/** The tensor in the buffer of scales. */
export const inScales = (t: Tensor, ring: LayerRing, offsetBytes = 0): Tensor => ({
  ...t,
  arena: { name: "scale slot", bytes: ring.scaleBytes, offsetBytes },
});

const offsetOf = (t: Tensor): number => t.arena?.offsetBytes ?? 0;

/** A module's adapter as the layer's programs bind it. */
export function streamedAdapter(adapter: ModuleAdapter, layer: number, ring: LayerRing): ModuleAdapter {
  const { parameters, gradients } = adapter;
  const parameter = (t: Tensor): Tensor => inSlot(t, layer, ring, ring.frozenBytes + offsetOf(t));
  const gradient = (t: Tensor): Tensor => inGradients(t, ring, offsetOf(t));
  return {
    ...adapter,
    parameters: {
      a: parameter(parameters.a),
      b: parameter(parameters.b),
      ...(parameters.magnitude && { magnitude: parameter(parameters.magnitude) }),
    },
    gradients: {
      a: gradient(gradients.a),
      b: gradient(gradients.b),
      ...(gradients.magnitude && { magnitude: gradient(gradients.magnitude) }),
    },
  };
}

/** A layer's trained state as the optimizer binds it: one tensor after the other in its slot. */
export function updatedArena(arena: AdapterArena, ring: LayerRing): AdapterArena {
  const starts = new Map<string, number>();
  let bytes = 0;
  for (const t of stateTensors(arena)) {
    starts.set(t.name, bytes);
    bytes += alignedBytes(t);
  }
  const place = (t: Tensor): Tensor => {
    const start = starts.get(t.arena?.name ?? t.name) ?? 0;
    return { ...inSlot(t, arena.layer, ring, start + offsetOf(t)), name: `${t.name} in update` };
  };
  const { moments } = arena;
  return {
    ...arena,
    parameter: place(arena.parameter),
    gradient: place(arena.gradient),
    moments:
      moments.bits === 32
        ? { bits: 32, first: place(moments.first), second: place(moments.second) }
        : {
            bits: 8,
            codes: place(moments.codes),
            absmax: place(moments.absmax),
            ...(moments.magnitudes && {
              magnitudes: {
                elements: moments.magnitudes.elements,
                parameter: place(moments.magnitudes.parameter),
                gradient: place(moments.magnitudes.gradient),
                first: place(moments.magnitudes.first),
                second: place(moments.magnitudes.second),
              },
            }),
          },
  };
}
