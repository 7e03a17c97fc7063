/** How streamed layers come and go in programs that run layers: transfers around the calls of a layer. */
import { stateTensors } from "../adapter/layout.js";
import type { Call } from "../program/kernel.js";
import { alignedBytes, tensor, tensorBytes, type Tensor } from "../program/tensor.js";
import { callDownload, callUpload } from "../program/transfer.js";
import { layerRowNorms } from "./layer.js";
import { inGradients, inScales, inSlot, RING_SLOTS } from "./ring.js";
import { ROW_SQUARES, type LayerTensors, type ModelTensors } from "./tensors.js";

/** The host's name of a streamed layer's frozen tensors, laid out as the slot is. */
export const layerBytesName = (layer: number): string => `layer ${layer}`;

/** The host's name of a streamed layer's scales, laid out as their buffer is. Parameters and gradients go by their tensors' names. */
export const scaleBytesName = (layer: number): string => `scales.${layer}`;

/** What a layer's scales g take; those of a bias without DoRA are frozen tensors. */
export function scaleBytesOf({ linears }: Pick<LayerTensors, "linears">): number {
  let bytes = 0;
  for (const { scaleBias } of Object.values(linears))
    if (scaleBias?.kind === "row_norm") bytes += alignedBytes(scaleBias);
  return bytes;
}

/** Row norms of resident layers, all at once: nothing else needs memory yet. */
export function residentRowNorms({ layers, ring, rowSquares }: ModelTensors): readonly Call[] {
  const calls = layers.slice(0, ring?.firstLayer).flatMap(layerRowNorms);
  if (!rowSquares) return calls;
  return [{ ...callUpload("row squares", rowSquares, ROW_SQUARES), onlyAfterUpdate: true }, ...calls];
}

/** Bytes that streamed layers keep on the host beside their frozen tensors, by name: trained state, gradients and scales. */
export function hostStateBytes({ ring, layers }: ModelTensors): ReadonlyMap<string, number> {
  const bytes = new Map<string, number>();
  if (!ring) return bytes;
  for (const arena of ring.arenas.values())
    for (const t of stateTensors(arena)) bytes.set(t.name, tensorBytes(t));
  for (const w of layers.slice(ring.firstLayer)) {
    const scales = scaleBytesOf(w);
    if (scales > 0) bytes.set(scaleBytesName(w.layer), scales);
  }
  return bytes;
}

export interface LayerStream {
  /** Before a layer: it, and the one that follows while its slot is free. */
  bring(layer: number, following: number): readonly Call[];
  /** After it was brought: its row norms, and its scales to the host. */
  rowNorms(layer: number): readonly Call[];
  /** Before its backward: what earlier micro-batches added up. */
  bringGradients(layer: number): readonly Call[];
  /** After its backward: the sum with this one. */
  keepGradients(layer: number): readonly Call[];
}

/** Remembers what the calls so far have brought: one for each program. */
export function layerStream(model: ModelTensors): LayerStream {
  const { ring, layers } = model;
  if (!ring)
    return { bring: () => [], rowNorms: () => [], bringGradients: () => [], keepGradients: () => [] };
  const held = Array.from({ length: RING_SLOTS }, () => -1);
  let scalesHeld = -1;

  const fill = (layer: number): readonly Call[] => {
    const slot = layer % RING_SLOTS;
    if (layer < ring.firstLayer || layer >= layers.length || held[slot] === layer) return [];
    held[slot] = layer;
    const name = layerBytesName(layer);
    const frozen = inSlot(tensor(name, [ring.frozenBytes / 4], "u32", "weight"), layer, ring, 0);
    const parameter = ring.arenas.get(layer)?.parameter;
    const calls = [callUpload(`layers.${layer} weights`, frozen, name)];
    if (!parameter) return calls;
    const place = inSlot(parameter, layer, ring, ring.frozenBytes);
    return [...calls, callUpload(`layers.${layer} adapter`, place, parameter.name)];
  };
  const scales = (layer: number): Tensor | undefined => {
    const w = layers[layer];
    const bytes = w && layer >= ring.firstLayer ? scaleBytesOf(w) : 0;
    return bytes === 0
      ? undefined
      : inScales(tensor(scaleBytesName(layer), [bytes / 4], "f32", "row_norm"), ring);
  };
  const gradients = (layer: number): Tensor | undefined => {
    const arena = ring.arenas.get(layer);
    return arena && inGradients(arena.gradient, ring);
  };

  return {
    bring(layer, following) {
      const calls = [...fill(layer), ...fill(following)];
      const own = scales(layer);
      if (!own || scalesHeld === layer) return calls;
      scalesHeld = layer;
      return [...calls, callUpload(`layers.${layer} scales`, own, own.name)];
    },
    rowNorms(layer) {
      const [w, own] = [layers[layer], scales(layer)];
      if (!w || !own) return [];
      const keep = callDownload(`layers.${layer} scales`, own, own.name);
      return [...layerRowNorms(w), { ...keep, onlyAfterUpdate: true }];
    },
    bringGradients(layer) {
      const own = gradients(layer);
      return own ? [callUpload(`layers.${layer} gradients`, own, own.name)] : [];
    },
    keepGradients(layer) {
      const own = gradients(layer);
      return own ? [callDownload(`layers.${layer} gradients`, own, own.name)] : [];
    },
  };
}
