/** Tensors of a checkpoint by name, checked for shape and type; and where their bytes go. */
import type { Checkpoint } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import type { TensorEntry } from "../formats/safetensors.js";
import type { Tensor } from "../program/tensor.js";
import type { Architecture } from "./config.js";
import { layerPath } from "./modules.js";
import { checkFinite, Widener } from "./stored_values.js";

/** Where loaded bytes go: the executor, or the reference's memory. */
export interface TensorSink {
  write(t: Tensor, bytes: Uint8Array, offsetBytes?: number): Promise<void> | void;
}

/** The checkpoint's entry, checked for shape and a float type. @throws QdoraError naming file and tensor. */
export function findEntry(checkpoint: Checkpoint, name: string, shape: readonly number[]): TensorEntry {
  const entry = checkpoint.tensors.get(name);
  if (!entry)
    throw new QdoraError(
      checkpoint.folder,
      `the tensor ${name} is missing`,
      "the folder does not fit its config.json; download it again",
    );
  if (entry.shape.length !== shape.length || entry.shape.some((n, i) => n !== shape[i])) {
    throw new QdoraError(
      entry.file,
      `${name} has shape [${entry.shape.join(", ")}], config.json says [${shape.join(", ")}]`,
    );
  }
  if (!["F32", "F16", "BF16"].includes(entry.dtype))
    throw new QdoraError(entry.file, `${name} has dtype ${entry.dtype} (supported: F32, F16, BF16)`);
  return entry;
}

/** Names and widths of the norms' weights. */
export function normWidths(arch: Architecture): readonly (readonly [name: string, width: number])[] {
  const names: [string, number][] = [["model.norm.weight", arch.hidden]];
  for (let layer = 0; layer < arch.layers; layer++) {
    const path = layerPath(layer);
    for (const norm of ["input_layernorm", "post_attention_layernorm"])
      names.push([`${path}.${norm}.weight`, arch.hidden]);
    if (arch.qkNorm)
      for (const norm of ["q_norm", "k_norm"]) names.push([`${path}.self_attn.${norm}.weight`, arch.headDim]);
  }
  return names;
}

/** A bias or norm weight in f32. @throws QdoraError naming file, tensor and index for NaN and infinity */
export async function readVector(checkpoint: Checkpoint, name: string, width: number): Promise<Float32Array> {
  const entry = findEntry(checkpoint, name, [width]);
  const bytes = await checkpoint.read(entry);
  checkFinite(bytes, entry, 0);
  return new Widener().widen(bytes, entry);
}
