// Every kernel call of training, evaluation and generation with two real shapes: Mistral 7B and SmolLM2 135M, NF4 and bf16 bases.
import { adapterLayout } from "../dist/adapter/layout.js";
import { checkedTargetModules } from "../dist/adapter/targets.js";
import { generationProgram, generationTensors } from "../dist/model/generation.js";
import { allModules } from "../dist/model/modules.js";
import { evaluationProgram, microBatchProgram, streamTensors } from "../dist/model/programs.js";
import { modelTensors } from "../dist/model/tensors.js";
import { optimizerProgram } from "../dist/train/optimizer.js";
import { PORTABLE_TRAITS } from "../dist/gpu/traits.js";

const RANK = 16;
/** Layers of one model are alike: two have all calls, the lowest one and the others. */
const LAYERS = 2;

const llama = (more) => ({
  layers: LAYERS,
  normEps: 1e-5,
  qkvBias: false,
  outBias: false,
  mlpBias: false,
  qkNorm: false,
  maxPositions: 8192,
  rope: { theta: 10000, attentionFactor: 1 },
  quantized: false,
  ...more,
});

const MODELS = {
  "Mistral 7B": {
    tokens: 1024,
    arch: llama({
      modelType: "mistral",
      vocab: 32000,
      hidden: 4096,
      heads: 32,
      kvHeads: 8,
      headDim: 128,
      feedForward: 14336,
      tied: false,
      windows: Array(LAYERS).fill(4096),
    }),
  },
  "SmolLM2 135M": {
    tokens: 256,
    arch: llama({
      modelType: "llama",
      vocab: 49152,
      hidden: 576,
      heads: 9,
      kvHeads: 3,
      headDim: 64,
      feedForward: 1536,
      tied: true,
      windows: Array(LAYERS).fill(0),
    }),
  },
};

const FORMATS = {
  nf4: { format: "nf4", blockSize: 64, doubleQuant: true },
  bf16: { format: "bf16" },
};

const ADAPTER = {
  useDora: true,
  useRslora: false,
  rank: RANK,
  alpha: 2 * RANK,
  targetModules: "all-linear",
  excludeModules: undefined,
  rankPattern: {},
  alphaPattern: {},
};

function programsOf({ arch, tokens }, format) {
  const layout = adapterLayout(checkedTargetModules(allModules(arch), ADAPTER), ADAPTER, (m) => m.layer);
  const storage = {
    linear: () => format,
    table: "bf16",
    head: "bf16",
    positions: tokens,
    maxBindingBytes: PORTABLE_TRAITS.maxBindingBytes,
  };
  const model = modelTensors(arch, { ...storage, adapter: layout });
  const stream = streamTensors(tokens);
  const sizes = { N: tokens, capacity: tokens, checkpointing: "full" };
  const generation = generationTensors(model, 1024, 128);
  return [
    microBatchProgram(model, stream, sizes),
    optimizerProgram(layout, stream),
    evaluationProgram(model, stream, sizes),
    generationProgram("prefill", model, generation, { N: 128, capacity: 128, row: 0 }),
    generationProgram("decode", model, generation, { N: 1, capacity: 1, row: 0 }),
  ];
}

/** All calls with the name of their model. */
export function* modelCalls(half) {
  for (const [name, model] of Object.entries(MODELS)) {
    for (const [storage, format] of Object.entries(FORMATS)) {
      for (const program of programsOf(model, format))
        for (const call of program.calls)
          yield {
            model: `${name} ${storage}`,
            call:
              half && call.kernel.name.includes("product")
                ? { ...call, options: { ...call.options, HALF: true } }
                : call,
          };
    }
  }
}
