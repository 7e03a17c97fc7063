/** A model with an adapter folded in: every tensor by its checkpoint name, in f32 pieces, read and merged as they are asked for. */
import { mergeRows } from "../adapter/merge.js";
import { openCheckpoint, type Checkpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import type { Dtype, TensorEntry } from "../formats/safetensors.js";
import { findNonFinite } from "../quant/nf4.js";
import { readyNf4Pieces, requantisedPieces, storedPieces, type Cut, type Piece } from "./base_values.js";
import { readArchitecture, type Architecture } from "./config.js";
import { checkModelHeaders, findEntry } from "./load.js";
import { loadAdapter, type LoadedAdapter } from "./loaded_adapter.js";
import { layerModules, layerPath, type LinearModule } from "./modules.js";

/** The values that the adapter is added to. A folder that holds NF4 gives its dequantised values either way. */
export type Base =
  | { readonly kind: "stored" }
  /** A dense folder, quantised and restored as training does. */
  | { readonly kind: "nf4"; readonly doubleQuant: boolean };

export type FloatDtype = Extract<Dtype, "F32" | "F16" | "BF16">;

export interface MergedTensor {
  /** Name in the checkpoint. */
  readonly name: string;
  readonly shape: readonly number[];
  /** The stored type; for NF4 that of the embedding. */
  readonly dtype: FloatDtype;
  /**
   * The values, in order.
   * @throws QdoraError naming the tensor for NaN and infinity
   */
  pieces(cut?: Cut): AsyncGenerator<Float32Array>;
}

export interface MergedModel {
  readonly arch: Architecture;
  readonly adapter: LoadedAdapter | undefined;
  /** In the order of the forward pass; a tied head is left out. */
  readonly tensors: readonly MergedTensor[];
  /** Names that the folder holds and no part of the model needs. */
  readonly unused: readonly string[];
  close(): Promise<void>;
}

export interface MergeSource {
  /** Model folder. */
  readonly model: string;
  /** PEFT adapter folder; without it the model is taken as it is. */
  readonly adapter?: string | undefined;
  readonly base: Base;
}

const NF4_BLOCK = 64;

/** Opens the model and reads the adapter; weights are read by `pieces`. @throws QdoraError for what does not fit or is broken */
export async function openMerged(source: MergeSource): Promise<MergedModel> {
  const checkpoint = await openCheckpoint(source.model);
  try {
    const arch = await readArchitecture(source.model);
    await checkModelHeaders(checkpoint, arch);
    const adapter = source.adapter === undefined ? undefined : await loadAdapter(source.adapter, arch);
    const tensors = describe(checkpoint, arch, adapter, source);
    const used = new Set(tensors.map((t) => t.name));
    // X.absmax, X.quant_map and the like belong to X.
    const unused = [...checkpoint.tensors.keys()].filter(
      (name) => !used.has(name) && !(arch.quantized && used.has(name.replace(/\.weight\..*$/, ".weight"))),
    );
    return { arch, adapter, tensors, unused, close: () => checkpoint.close() };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

const dtypeOf = ({ dtype }: TensorEntry): FloatDtype => (dtype === "BF16" || dtype === "F16" ? dtype : "F32");

function describe(
  checkpoint: Checkpoint,
  arch: Architecture,
  adapter: LoadedAdapter | undefined,
  source: MergeSource,
): readonly MergedTensor[] {
  const plain = (name: string, shape: readonly number[]): MergedTensor => ({
    name,
    shape,
    dtype: dtypeOf(findEntry(checkpoint, name, shape)),
    pieces: async function* (cut) {
      for await (const { values } of storedPieces(checkpoint, name, shape, cut)) yield values;
    },
  });
  const embedding = plain("model.embed_tokens.weight", [arch.vocab, arch.hidden]);
  const linear = (m: LinearModule): MergedTensor => {
    const name = `${m.path}.weight`;
    const entry = checkpoint.tensors.get(name);
    const isReady = entry?.dtype === "U8";
    return {
      name,
      shape: [m.out, m.in],
      dtype: entry && !isReady ? dtypeOf(entry) : embedding.dtype,
      pieces: (cut) => linearPieces(checkpoint, arch, m, adapter, source, cut),
    };
  };
  const layers = Array.from({ length: arch.layers }, (_, layer) => {
    const path = layerPath(layer);
    const norm = (name: string, width: number): MergedTensor => plain(`${path}.${name}.weight`, [width]);
    return [
      norm("input_layernorm", arch.hidden),
      ...(arch.qkNorm
        ? [norm("self_attn.q_norm", arch.headDim), norm("self_attn.k_norm", arch.headDim)]
        : []),
      norm("post_attention_layernorm", arch.hidden),
      ...layerModules(arch, layer).flatMap((m) => [
        linear(m),
        ...(m.bias ? [plain(`${m.path}.bias`, [m.out])] : []),
      ]),
    ];
  });
  return [
    embedding,
    ...layers.flat(),
    plain("model.norm.weight", [arch.hidden]),
    ...(arch.tied ? [] : [plain("lm_head.weight", [arch.vocab, arch.hidden])]),
  ];
}

async function basePieces(
  checkpoint: Checkpoint,
  arch: Architecture,
  m: LinearModule,
  base: Base,
  cut: Cut | undefined,
): Promise<AsyncGenerator<Piece>> {
  const name = `${m.path}.weight`;
  const ready = arch.quantized ? await readyNf4Pieces(checkpoint, name, cut) : undefined;
  if (ready) return ready;
  // What a ready-made checkpoint leaves dense is dense in training, too.
  return base.kind === "nf4" && !arch.quantized
    ? requantisedPieces(
        checkpoint,
        name,
        [m.out, m.in],
        { blockSize: NF4_BLOCK, doubleQuant: base.doubleQuant },
        cut,
      )
    : storedPieces(checkpoint, name, [m.out, m.in], cut);
}

async function* linearPieces(
  checkpoint: Checkpoint,
  arch: Architecture,
  m: LinearModule,
  adapter: LoadedAdapter | undefined,
  source: MergeSource,
  cut: Cut | undefined,
): AsyncGenerator<Float32Array> {
  const layout = adapter?.layout.modules.get(m.path);
  const factors = adapter?.values.get(m.path);
  for await (const { firstRow, values } of await basePieces(checkpoint, arch, m, source.base, cut)) {
    if (layout && factors) {
      mergeRows(values, firstRow, layout, factors);
      const bad = findNonFinite(values);
      if (bad >= 0)
        throw new QdoraError(
          source.adapter ?? checkpoint.folder,
          `merging ${m.path}.weight gives ${values[bad]} at index ${firstRow * m.in + bad}`,
          "the adapter's numbers are too large to be true; use another one",
        );
    }
    yield values;
  }
}
