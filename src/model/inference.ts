/** A model for inference, with or without an adapter: its shapes before anything is on the GPU, and its adapter's values. */
import { openCheckpoint } from "../formats/checkpoint.js";
import { PORTABLE_TRAITS } from "../gpu/traits.js";
import type { Executor } from "../program/executor.js";
import { readArchitecture } from "./config.js";
import { checkModelHeaders, linearFormats, storedFormat } from "./load.js";
import type { LoadedAdapter } from "./loaded_adapter.js";
import { modelTensors, type ModelTensors } from "./tensors.js";

export interface InferenceOptions {
  /** Model folder. */
  readonly model: string;
  readonly quant: "nf4" | "none";
  readonly doubleQuant: boolean;
  /** Tokens of the longest sequence. */
  readonly positions: number;
}

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** Shapes of the model with its adapter; nothing is on the GPU yet. @throws QdoraError for a model or adapter that cannot be used */
export async function inferenceModel(
  options: InferenceOptions,
  adapter: LoadedAdapter | undefined,
): Promise<ModelTensors> {
  const checkpoint = await openCheckpoint(options.model);
  try {
    const arch = await readArchitecture(options.model);
    await checkModelHeaders(checkpoint, arch);
    const table = storedFormat(checkpoint, "model.embed_tokens.weight", [arch.vocab, arch.hidden]);
    return modelTensors(arch, {
      linear: await linearFormats(checkpoint, arch, options.quant, options.doubleQuant),
      table,
      head: {
        format: arch.tied ? table : storedFormat(checkpoint, "lm_head.weight", [arch.vocab, arch.hidden]),
      },
      hostEmbedding: false,
      hostSquares: false,
      residentLayers: arch.layers,
      positions: options.positions,
      maxBindingBytes: PORTABLE_TRAITS.maxBindingBytes,
      adapter: adapter?.layout,
    });
  } finally {
    await checkpoint.close();
  }
}

/** Writes an adapter's factors into the tensors of its layout. */
export async function writeAdapter({ layout, values }: LoadedAdapter, executor: Executor): Promise<void> {
  for (const { path, parameters } of layout.modules.values()) {
    const v = values.get(path);
    if (!v) continue;
    await executor.write(parameters.a, bytesOf(v.a));
    await executor.write(parameters.b, bytesOf(v.b));
    if (parameters.magnitude && v.magnitude) await executor.write(parameters.magnitude, bytesOf(v.magnitude));
  }
}
