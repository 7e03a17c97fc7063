/** The tensors of a model by their checkpoint names: what the loader fills and the programs bind. */
import type { AdapterLayout, ModuleAdapter } from "../adapter/layout.js";
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
import { alignedBytes, tensor, type Tensor } from "../program/tensor.js";
import type { Architecture } from "./config.js";
import { allModules, layerModules, layerPath, type LinearModule, type Role } from "./modules.js";
import { inScales, inSlot, ringOf, streamedAdapter, type LayerRing } from "./ring.js";

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
  /** Row squares of resident layers where they wait on the host: one piece of memory that is there while row norms are computed. */
  readonly rowSquares: Tensor | undefined;
}

/** The host's name of the row squares of resident layers. */
export const ROW_SQUARES = "row squares";

export interface ModelStorage {
  readonly linear: (module: LinearModule) => LinearFormat;
  /** Stored type of embedding and head. */
  readonly table: DenseFormat;
  readonly head: HeadFormat;
  /** The host gathers embedding rows; the table is not on the GPU. */
  readonly hostEmbedding: boolean;
  /** Row squares of resident layers wait on the host: only row norms after an update need them. */
  readonly hostSquares: boolean;
  /** Layers from this one on are streamed; none with the number of layers. */
  readonly residentLayers: number;
  /** Rows of the RoPE table: the longest sequence. */
  readonly positions: number;
  readonly maxBindingBytes: number;
  readonly adapter: AdapterLayout | undefined;
}

/** Gives a layer's tensors their places: as they are, or in the ring. */
interface Placing {
  readonly frozen: (t: Tensor) => Tensor;
  /** Scales g, which the row norms write. */
  readonly scales: (t: Tensor) => Tensor;
  readonly squares: (t: Tensor) => Tensor;
  readonly adapter: (adapter: ModuleAdapter) => ModuleAdapter;
}

const same = (t: Tensor): Tensor => t;
const RESIDENT: Placing = { frozen: same, scales: same, squares: same, adapter: (adapter) => adapter };

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
  const ring = residentLayers < arch.layers ? ringFor(arch, storage) : undefined;
  const rowSquares = storage.hostSquares ? waitingSquares(arch, storage) : undefined;
  const waiting = rowSquares && inOrder(rowSquares);
  const resident = (layer: number): Placing => {
    const inArena = (name: string, partOf: (m: LinearModule) => Tensor): ((t: Tensor) => Tensor) =>
      inArenaOf(`${name}.${layer}`, magnitudeBytes(arch, storage, layer, partOf));
    const squares = waiting ?? inArena("row squares", squaresOf);
    return { ...RESIDENT, squares, scales: inArena("scales", scalesOf) };
  };
  return {
    arch,
    embedding: storage.hostEmbedding ? [] : embedding,
    head: sharesHead ? embedding : headParts(arch, head, maxBindingBytes),
    finalNorm: tensor("model.norm.weight", [arch.hidden], "f32", "weight"),
    layers: Array.from({ length: arch.layers }, (_, layer) =>
      layerTensors(
        arch,
        storage,
        layer,
        ring && layer >= ring.firstLayer
          ? streamed(layer, ring, magnitudeBytes(arch, storage, layer, squaresOf))
          : resident(layer),
      ),
    ),
    ropeTable: tensor("rope table", [storage.positions, arch.headDim / 2, 2], "f32", "weight"),
    ring,
    rowSquares,
  };
}

const hasMagnitude = (storage: ModelStorage, m: LinearModule): boolean =>
  storage.adapter?.modules.get(m.path)?.parameters.magnitude !== undefined;

/** Bytes of what each of a layer's modules that have a magnitude has. */
const magnitudeBytes = (
  arch: Architecture,
  storage: ModelStorage,
  layer: number,
  partOf: (m: LinearModule) => Tensor,
): number => {
  const own = layerModules(arch, layer).filter((m) => hasMagnitude(storage, m));
  return sum(own.map((m) => alignedBytes(partOf(m))));
};

/** The row squares of all resident modules that have a magnitude; undefined where none has. */
function waitingSquares(arch: Architecture, storage: ModelStorage): Tensor | undefined {
  let bytes = 0;
  for (const m of allModules(arch))
    if (m.layer < storage.residentLayers && hasMagnitude(storage, m)) bytes += alignedBytes(squaresOf(m));
  return bytes === 0 ? undefined : tensor(ROW_SQUARES, [bytes / 4]);
}

const squaresOf = (m: LinearModule): Tensor => tensor(`${m.path}.row_squares`, [m.out], "f32", "row_norm");

const scalesOf = (m: LinearModule): Tensor =>
  tensor(`${m.path}.scale_bias`, [m.out, m.bias ? 2 : 1], "f32", "row_norm");

/** Parts of a tensor, one after the other. */
function inOrder(base: Tensor): (t: Tensor) => Tensor {
  let at = 0;
  return (t) => {
    const offsetBytes = at;
    at += alignedBytes(t);
    return { ...t, kind: base.kind, view: { base, offsetBytes } };
  };
}

/** Tensors of a layer in a buffer of their own, one after the other: one call for all modules binds it. */
function inArenaOf(name: string, bytes: number): (t: Tensor) => Tensor {
  let at = 0;
  return (t) => {
    const offsetBytes = at;
    at += alignedBytes(t);
    return { ...t, arena: { name, bytes, offsetBytes } };
  };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

function layerTensors(
  arch: Architecture,
  storage: ModelStorage,
  layer: number,
  place: Placing,
): LayerTensors {
  const path = layerPath(layer);
  const norm = (name: string, width = arch.hidden): Tensor =>
    place.frozen(tensor(`${path}.${name}.weight`, [width], "f32", "weight"));
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

/** The ring for layers from `firstLayer` on. */
function ringFor(arch: Architecture, storage: ModelStorage): LayerRing {
  const layers = Array.from({ length: arch.layers - storage.residentLayers }, (_, i) => {
    const bytes = { frozen: 0, scales: 0 };
    const counted =
      (what: keyof typeof bytes) =>
      (t: Tensor): Tensor => {
        bytes[what] += alignedBytes(t);
        return t;
      };
    layerTensors(arch, storage, storage.residentLayers + i, {
      ...RESIDENT,
      frozen: counted("frozen"),
      squares: counted("frozen"),
      scales: counted("scales"),
    });
    return bytes;
  });
  return ringOf(storage.residentLayers, layers, storage.adapter?.arenas ?? []);
}

/**
 * One tensor after the other, in the order in which the layer names them; row squares before all others, so that one call binds
 * them, as it does those of resident layers.
 */
function streamed(layer: number, ring: LayerRing, squareBytes: number): Placing {
  let [squares, frozen, scales] = [0, squareBytes, 0];
  return {
    frozen(t) {
      const offsetBytes = frozen;
      frozen += alignedBytes(t);
      return inSlot(t, layer, ring, offsetBytes);
    },
    squares(t) {
      const offsetBytes = squares;
      squares += alignedBytes(t);
      return inSlot(t, layer, ring, offsetBytes);
    },
    scales(t) {
      const offsetBytes = scales;
      scales += alignedBytes(t);
      return inScales(t, ring, offsetBytes);
    },
    adapter: (adapter) => streamedAdapter(adapter, layer, ring),
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
    const values = place.frozen(tensor(name, [m.out, m.in], how.format, "weight"));
    return { format: how.format, out: m.out, in: m.in, values };
  }
  const weight = nf4Weight(name, m.out, m.in, how, "weight");
  return { ...weight, codes: place.frozen(weight.codes), absmax: place.frozen(weight.absmax) };
}

function linearTensors(m: LinearModule, storage: ModelStorage, place: Placing): Linear {
  const adapter = storage.adapter?.modules.get(m.path);
  const isDora = hasMagnitude(storage, m);
  return {
    path: m.path,
    weight: linearWeight(m, storage.linear(m), place),
    ...(adapter && { adapter: place.adapter(adapter) }),
    ...(isDora && { scaleBias: place.scales(scalesOf(m)) }),
    ...(!isDora && m.bias && { scaleBias: place.frozen({ ...scalesOf(m), kind: "weight" }) }),
    ...(isDora && { rowSquares: place.squares(squaresOf(m)) }),
  };
}
