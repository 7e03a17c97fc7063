/** The tensors of a model by their checkpoint names: what the loader fills and the programs bind. */
import type { AdapterLayout } from "../adapter/layout.js";
import type { Linear } from "../adapter/linear.js";
import { doubleQuantLayout, type DenseFormat, type DenseWeight, type Weight } from "../kernels/weight.js";
import { tensor, type Tensor } from "../program/tensor.js";
import type { Architecture } from "./config.js";
import { layerModules, layerPath, type LinearModule, type Role } from "./modules.js";

/** How a linear weight lies on the GPU. */
export type LinearFormat =
  | { readonly format: "nf4"; readonly blockSize: number; readonly doubleQuant: boolean }
  | { readonly format: DenseFormat };

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
export interface TablePart {
  readonly firstRow: number;
  readonly weight: DenseWeight;
}

export interface ModelTensors {
  readonly arch: Architecture;
  readonly embedding: readonly TablePart[];
  /** The same parts where the model ties them. */
  readonly head: readonly TablePart[];
  readonly finalNorm: Tensor;
  readonly layers: readonly LayerTensors[];
  /** [positions, headDim / 2, 2] cos, sin */
  readonly ropeTable: Tensor;
}

export interface ModelStorage {
  readonly linear: (module: LinearModule) => LinearFormat;
  /** Stored type of embedding and head. */
  readonly table: DenseFormat;
  readonly head: DenseFormat;
  /** Rows of the RoPE table: the longest sequence. */
  readonly positions: number;
  readonly maxBindingBytes: number;
  readonly adapter: AdapterLayout | undefined;
}

/** Describes all tensors of a model. Names are those of the checkpoint. */
export function modelTensors(arch: Architecture, storage: ModelStorage): ModelTensors {
  const norm = (name: string, width = arch.hidden): Tensor =>
    tensor(`${name}.weight`, [width], "f32", "weight");
  const embedding = tableParts(
    "model.embed_tokens.weight",
    arch,
    storage.table,
    "embedding",
    storage.maxBindingBytes,
  );
  return {
    arch,
    embedding,
    head: arch.tied
      ? embedding
      : tableParts("lm_head.weight", arch, storage.head, "head", storage.maxBindingBytes),
    finalNorm: norm("model.norm"),
    layers: Array.from({ length: arch.layers }, (_, layer): LayerTensors => {
      const path = layerPath(layer);
      const linears = Object.fromEntries(
        layerModules(arch, layer).map((m) => [m.role, linearTensors(m, storage)]),
      );
      return {
        layer,
        inputNorm: norm(`${path}.input_layernorm`),
        postNorm: norm(`${path}.post_attention_layernorm`),
        ...(arch.qkNorm && {
          qNorm: norm(`${path}.self_attn.q_norm`, arch.headDim),
          kNorm: norm(`${path}.self_attn.k_norm`, arch.headDim),
        }),
        linears: linears as Record<Role, Linear>,
        window: arch.windows[layer] ?? 0,
      };
    }),
    ropeTable: tensor("rope table", [storage.positions, arch.headDim / 2, 2], "f32", "weight"),
  };
}

function tableParts(
  name: string,
  arch: Architecture,
  format: DenseFormat,
  kind: "embedding" | "head",
  maxBindingBytes: number,
): TablePart[] {
  const rowBytes = arch.hidden * (format === "f32" ? 4 : 2);
  // A multiple of 64 rows keeps every part's first element aligned for any width.
  const rows = Math.max(64, Math.floor(maxBindingBytes / rowBytes / 64) * 64);
  const parts: TablePart[] = [];
  for (let firstRow = 0; firstRow < arch.vocab; firstRow += rows) {
    const out = Math.min(rows, arch.vocab - firstRow);
    const values = tensor(
      firstRow === 0 ? name : `${name} from row ${firstRow}`,
      [out, arch.hidden],
      format,
      kind,
    );
    parts.push({ firstRow, weight: { format, out, in: arch.hidden, values } });
  }
  return parts;
}

function linearWeight(m: LinearModule, how: LinearFormat): Weight {
  const name = `${m.path}.weight`;
  if (how.format !== "nf4") {
    return {
      format: how.format,
      out: m.out,
      in: m.in,
      values: tensor(name, [m.out, m.in], how.format, "weight"),
    };
  }
  const blocks = Math.ceil((m.out * m.in) / how.blockSize);
  return {
    format: "nf4",
    out: m.out,
    in: m.in,
    blockSize: how.blockSize,
    codes: tensor(`${name}.codes`, [m.out, Math.ceil(m.in / 8)], "u32", "weight"),
    absmax: how.doubleQuant
      ? tensor(`${name}.absmax`, [doubleQuantLayout(blocks).words], "u32", "weight")
      : tensor(`${name}.absmax`, [blocks], "f32", "weight"),
    doubleQuant: how.doubleQuant,
  };
}

function linearTensors(m: LinearModule, storage: ModelStorage): Linear {
  const adapter = storage.adapter?.modules.get(m.path);
  const isDora = adapter?.parameters.magnitude !== undefined;
  return {
    path: m.path,
    weight: linearWeight(m, storage.linear(m)),
    ...(adapter && { adapter }),
    ...((isDora || m.bias) && {
      scaleBias: tensor(`${m.path}.scale_bias`, [m.out, 2], "f32", isDora ? "row_norm" : "weight"),
    }),
    ...(isDora && { rowSquares: tensor(`${m.path}.row_squares`, [m.out], "f32", "row_norm") }),
    ...(isDora && m.bias && { bias: tensor(`${m.path}.bias`, [m.out], "f32", "weight") }),
  };
}
