/** Everything that loading a model writes to the GPU, by tensor name. */
import { adapterLayout } from "../../src/adapter/layout.js";
import { targetModules, type AdapterSettings } from "../../src/adapter/targets.js";
import { openCheckpoint } from "../../src/formats/checkpoint.js";
import { readArchitecture } from "../../src/model/config.js";
import { linearFormats, loadModel, storedFormat } from "../../src/model/load.js";
import { allModules } from "../../src/model/modules.js";
import { modelTensors, type HeadFormat } from "../../src/model/tensors.js";
import { tensorBytes } from "../../src/program/tensor.js";

const DORA: AdapterSettings = {
  useDora: true,
  useRslora: false,
  rank: 2,
  alpha: 4,
  targetModules: "all-linear",
  excludeModules: undefined,
  rankPattern: {},
  alphaPattern: {},
};

/** @returns the bytes of each tensor of a model with DoRA on all linear modules */
export async function loadedBytes(
  folder: string,
  how: {
    readonly quant: "nf4" | "none";
    readonly doubleQuant: boolean;
    /** As stored, if none is given. */
    readonly head?: HeadFormat;
    readonly maxBindingBytes?: number;
  },
): Promise<ReadonlyMap<string, Uint8Array>> {
  const arch = await readArchitecture(folder);
  const checkpoint = await openCheckpoint(folder);
  const table = storedFormat(checkpoint, "model.embed_tokens.weight", [arch.vocab, arch.hidden]);
  const model = modelTensors(arch, {
    linear: await linearFormats(checkpoint, arch, how.quant, how.doubleQuant),
    table,
    head: how.head ?? { format: table },
    hostEmbedding: false,
    hostSquares: false,
    residentLayers: arch.layers,
    positions: 8,
    maxBindingBytes: how.maxBindingBytes ?? 1 << 27,
    adapter: adapterLayout(targetModules(allModules(arch), DORA), DORA, (m) => m.layer),
  });
  await checkpoint.close();
  const loaded = new Map<string, Uint8Array>();
  await loadModel(folder, model, {
    write(t, bytes, offset = 0) {
      let whole = loaded.get(t.name);
      if (!whole) loaded.set(t.name, (whole = new Uint8Array(Math.ceil(tensorBytes(t) / 4) * 4)));
      whole.set(bytes, offset);
    },
  });
  return loaded;
}
