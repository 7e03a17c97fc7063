/** The tensors of a model by their checkpoint names: what the loader fills and the programs bind. */
import type { AdapterLayout } from "../adapter/layout.js";
import type { Linear } from "../adapter/linear.js";
import {
  doubleQuantLayout,
  type DenseFormat,
  type DenseWeight,
  type Int8Weight,
  type LinearWeight,
  type Nf4Weight,
  type Weight,
} from "../kernels/weight.js";
import { OFFSET_ALIGN_BYTES, tensor, tensorBytes, type Tensor } from "../program/tensor.js";
import type { Architecture } from "./config.js";
import { layerModules, layerPath, type LinearModule, type Role } from "./modules.js";

/** How a linear weight lies on the GPU. */
export type LinearFormat =
  | { readonly format: "nf4"; readonly blockSize: number; readonly doubleQuant: boolean }
  | { readonly format: DenseFormat };

/** How the head lies on the GPU. */
export type HeadFormat = LinearFormat | { readonly format: "int8" };

export interface LayerTensors {
  readonly layer: number;
  readonly inputNorm: Tensor;
  readonly postNorm: Tensor;
  readonly qNorm?: Tensor;
  readonly kNorm?: Tensor;
  readonly linears: Readonly<Record<Role, Linear>>;
  /** Sliding window, 0 = none. */
  readonly window: number;
}

/** A range of rows of the embedding or head that fits one binding. */
export interface TablePart<W extends Weight = Weight> {
  readonly firstRow: number;
  readonly weight: W;
}

/** Layers that pass through the GPU: all of the same shape, so that any slot holds any of them. */
export interface LayerRing {
  /** This layer and all after it are streamed. */
  readonly firstLayer: number;
  /** Bytes of a slot: what one layer's frozen tensors take. */
  readonly slotBytes: number;
}

/** Slots of the ring: one holds the layer at work, the other the next one. */
export const RING_SLOTS = 2;

export interface ModelTensors {
  readonly arch: Architecture;
  /** Nothing where the host gathers rows. */
  readonly embedding: readonly TablePart<DenseWeight>[];
  /** The same parts where the model ties them and both lie on the GPU as stored. */
  readonly head: readonly TablePart[];
  readonly finalNorm: Tensor;
  readonly layers: readonly LayerTensors[];
  /** [positions, headDim / 2, 2] cos, sin */
  readonly ropeTable: Tensor;
  readonly ring: LayerRing | undefined;
}

export interface ModelStorage {
  readonly linear: (module: LinearModule) => LinearFormat;
  /** Stored type of embedding and head. */
  readonly table: DenseFormat;
  readonly head: HeadFormat;
  /** The host gathers embedding rows; the table is not on the GPU. */
  readonly hostEmbedding: boolean;
  /** Layers from this one on are streamed; none with the number of layers. */
  readonly residentLayers: number;
  /** Rows of the RoPE table: the longest sequence. */
  readonly positions: number;
  readonly maxBindingBytes: number;
  readonly adapter: AdapterLayout | undefined;
}

/** Gives a tensor its place: as it is, or in a slot of the ring. */
type Placing = (t: Tensor) => Tensor;

/** Describes all tensors of a model. Names are those of the checkpoint. */
export function modelTensors(arch: Architecture, storage: ModelStorage): ModelTensors {
  const { maxBindingBytes, residentLayers } = storage;
  const embedding = denseParts(
    "model.embed_tokens.weight",
    arch,
    storage.table,
    "embedding",
    maxBindingBytes,
  );
  const { head } = storage;
  const sharesHead = arch.tied && head.format !== "nf4" && head.format !== "int8";
  const ring = residentLayers < arch.layers ? layerRing(arch, storage) : undefined;
  return {
    arch,
    embedding: storage.hostEmbedding ? [] : embedding,
    head: sharesHead ? embedding : headParts(arch, head, maxBindingBytes),
    finalNorm: tensor("model.norm.weight", [arch.hidden], "f32", "weight"),
    layers: Array.from({ length: arch.layers }, (_, layer) =>
      layerTensors(arch, storage, layer, ring && layer >= ring.firstLayer ? inSlot(layer, ring) : (t) => t),
    ),
    ropeTable: tensor("rope table", [storage.positions, arch.headDim / 2, 2], "f32", "weight"),
    ring,
  };
}

function layerTensors(
  arch: Architecture,
  storage: ModelStorage,
  layer: number,
  place: Placing,
): LayerTensors {
  const path = layerPath(layer);
  const norm = (name: string, width = arch.hidden): Tensor =>
    place(tensor(`${path}.${name}.weight`, [width], "f32", "weight"));
  const linears = Object.fromEntries(
    layerModules(arch, layer).map((m) => [m.role, linearTensors(m, storage, place)]),
  );
  return {
    layer,
    inputNorm: norm("input_layernorm"),
    postNorm: norm("post_attention_layernorm"),
    ...(arch.qkNorm && {
      qNorm: norm("self_attn.q_norm", arch.headDim),
      kNorm: norm("self_attn.k_norm", arch.headDim),
    }),
    linears: linears as Record<Role, Linear>,
    window: arch.windows[layer] ?? 0,
  };
}

const alignedBytes = (t: Tensor): number =>
  Math.ceil(tensorBytes(t) / OFFSET_ALIGN_BYTES) * OFFSET_ALIGN_BYTES;

/** The ring's size: its largest layer. */
function layerRing(arch: Architecture, storage: ModelStorage): LayerRing {
  let slotBytes = 0;
  for (let layer = storage.residentLayers; layer < arch.layers; layer++) {
    let bytes = 0;
    layerTensors(arch, storage, layer, (t) => {
      bytes += alignedBytes(t);
      return t;
    });
    slotBytes = Math.max(slotBytes, bytes);
  }
  return { firstLayer: storage.residentLayers, slotBytes };
}

/** The whole slot that a streamed layer passes through. */
export function ringSlot(layer: number, ring: LayerRing): Tensor {
  const name = `layer slot ${layer % RING_SLOTS}`;
  const bytes = ring.slotBytes;
  return tensor(name, [bytes / 4], "u32", "weight", { name, bytes, offsetBytes: 0 });
}

/** One frozen tensor after the other, in the order in which the layer names them. */
function inSlot(layer: number, ring: LayerRing): Placing {
  const slot = ringSlot(layer, ring);
  let at = 0;
  return (t) => {
    const offsetBytes = at;
    at += alignedBytes(t);
    return { ...t, arena: { name: slot.name, bytes: ring.slotBytes, offsetBytes } };
  };
}

/** Rows of a table that one binding holds: a multiple of 64, so that parts start at whole blocks and aligned offsets. */
const partRows = (rowBytes: number, maxBindingBytes: number): number =>
  Math.max(64, Math.floor(maxBindingBytes / rowBytes / 64) * 64);

function ranges(
  arch: Architecture,
  rows: number,
): readonly { readonly firstRow: number; readonly out: number }[] {
  return Array.from({ length: Math.ceil(arch.vocab / rows) }, (_, i) => ({
    firstRow: i * rows,
    out: Math.min(rows, arch.vocab - i * rows),
  }));
}

const partName = (name: string, firstRow: number): string =>
  firstRow === 0 ? name : `${name} from row ${firstRow}`;

function denseParts(
  name: string,
  arch: Architecture,
  format: DenseFormat,
  kind: "embedding" | "head",
  maxBindingBytes: number,
): readonly TablePart<DenseWeight>[] {
  const rows = partRows(arch.hidden * (format === "f32" ? 4 : 2), maxBindingBytes);
  return ranges(arch, rows).map(({ firstRow, out }) => {
    const values = tensor(partName(name, firstRow), [out, arch.hidden], format, kind);
    return { firstRow, weight: { format, out, in: arch.hidden, values } };
  });
}

function headParts(arch: Architecture, how: HeadFormat, maxBindingBytes: number): readonly TablePart[] {
  if (how.format === "nf4") return nf4Parts(arch, how, maxBindingBytes);
  if (how.format === "int8") return int8Parts(arch, maxBindingBytes);
  return denseParts("lm_head.weight", arch, how.format, "head", maxBindingBytes);
}

function int8Parts(arch: Architecture, maxBindingBytes: number): readonly TablePart<Int8Weight>[] {
  const { hidden } = arch;
  const words = Math.ceil(hidden / 4);
  return ranges(arch, partRows(words * 4, maxBindingBytes)).map(({ firstRow, out }) => {
    const name = partName("lm_head.weight", firstRow);
    const codes = tensor(`${name}.codes`, [out, words], "u32", "head");
    const absmax = tensor(`${name}.absmax`, [out], "f32", "head");
    return { firstRow, weight: { format: "int8", out, in: hidden, codes, absmax } };
  });
}

/** A head in NF4; each part is quantised for itself. */
function nf4Parts(
  arch: Architecture,
  how: Extract<LinearFormat, { format: "nf4" }>,
  maxBindingBytes: number,
): readonly TablePart[] {
  return ranges(arch, partRows(Math.ceil(arch.hidden / 8) * 4, maxBindingBytes)).map(({ firstRow, out }) => ({
    firstRow,
    weight: nf4Weight(partName("lm_head.weight", firstRow), out, arch.hidden, how, "head"),
  }));
}

function nf4Weight(
  name: string,
  out: number,
  inputs: number,
  how: Extract<LinearFormat, { format: "nf4" }>,
  kind: "weight" | "head",
): Nf4Weight {
  const blocks = Math.ceil((out * inputs) / how.blockSize);
  return {
    format: "nf4",
    out,
    in: inputs,
    blockSize: how.blockSize,
    codes: tensor(`${name}.codes`, [out, Math.ceil(inputs / 8)], "u32", kind),
    absmax: how.doubleQuant
      ? tensor(`${name}.absmax`, [doubleQuantLayout(blocks).words], "u32", kind)
      : tensor(`${name}.absmax`, [blocks], "f32", kind),
    doubleQuant: how.doubleQuant,
  };
}

function linearWeight(m: LinearModule, how: LinearFormat, place: Placing): LinearWeight {
  const name = `${m.path}.weight`;
  if (how.format !== "nf4") {
    const values = place(tensor(name, [m.out, m.in], how.format, "weight"));
    return { format: how.format, out: m.out, in: m.in, values };
  }
  const weight = nf4Weight(name, m.out, m.in, how, "weight");
  return { ...weight, codes: place(weight.codes), absmax: place(weight.absmax) };
}

function linearTensors(m: LinearModule, storage: ModelStorage, place: Placing): Linear {
  const adapter = storage.adapter?.modules.get(m.path);
  const isDora = adapter?.parameters.magnitude !== undefined;
  const scaleBias = (kind: "row_norm" | "weight"): Tensor =>
    tensor(`${m.path}.scale_bias`, [m.out, m.bias ? 2 : 1], "f32", kind);
  return {
    path: m.path,
    weight: linearWeight(m, storage.linear(m), place),
    ...(adapter && { adapter }),
    ...(isDora && { scaleBias: scaleBias("row_norm") }),
    ...(!isDora && m.bias && { scaleBias: place(scaleBias("weight")) }),
    ...(isDora && { rowSquares: place(tensor(`${m.path}.row_squares`, [m.out], "f32", "row_norm")) }),
    ...(isDora && m.bias && { bias: place(tensor(`${m.path}.bias`, [m.out], "f32", "weight")) }),
  };
}
