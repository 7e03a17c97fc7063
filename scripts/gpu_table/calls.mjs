// Every kernel call of training, evaluation and generation with two real shapes: Mistral 7B and SmolLM2 135M, NF4 and bf16 bases.
import { adapterLayout } from "../../dist/adapter/layout.js";
import { targetModules } from "../../dist/adapter/targets.js";
import { PORTABLE_TRAITS } from "../../dist/gpu/traits.js";
import { generationProgram, generationTensors } from "../../dist/model/generation.js";
import { geometry } from "../../dist/model/geometries.js";
import { allModules } from "../../dist/model/modules.js";
import { modelTensors } from "../../dist/model/tensors.js";
import { callProductBackward, callProductForward } from "../../dist/kernels/product.js";
import { callNf4Quantize } from "../../dist/kernels/nf4_quantize.js";
import { callSwigluBackward } from "../../dist/kernels/swiglu.js";
import { streamTensors } from "../../dist/model/programs.js";
import { tensor } from "../../dist/program/tensor.js";
import { defaultChoices, planRun } from "../../dist/train/memory.js";
import { optimizerProgram } from "../../dist/train/optimizer.js";

/** Layers of one model are alike: two have all calls, the lowest one and the others. */
const LAYERS = 2;
const RANK = 16;
/** Tokens of a micro-batch. */
const MODELS = { "mistral-7b": 1024, "smollm2-135m": 256 };
const BASES = {
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

const SETTINGS = {
  double_quant: true,
  gradient_checkpointing: "full",
  checkpoint_dtype: "auto",
  checkpoint_place: "gpu",
  quant_head: "none",
  stream_layers: 0,
  token_chunk: undefined,
};

function quantizeCall({ hidden, feedForward }) {
  const given = (what, shape, dtype) => tensor(what, shape, dtype, "cache");
  return callNf4Quantize(
    "quantise",
    {
      values: given("values", [feedForward, hidden], "f32"),
      codes: given("codes", [feedForward, hidden / 8], "u32"),
      absmax: given("absmax", [(feedForward * hidden) / 64], "f32"),
    },
    { out: feedForward, in: hidden, blockSize: 64 },
  );
}

/** Of LoRA: DoRA's makes the magnitudes' gradients besides. */
function swigluCall({ feedForward }, tokens) {
  const given = (what) => tensor(what, [tokens, feedForward], "f32", "cache");
  const t = { gate: given("gate"), up: given("up"), d: given("d_act") };
  return callSwigluBackward("swiglu", t, { count: tokens * feedForward });
}

/** A head in int8, as if it took two bindings. */
function int8HeadCalls({ hidden, vocab }, tokens, half) {
  const given = (what, shape, dtype) => tensor(what, shape, dtype, "cache");
  const weight = {
    format: "int8",
    out: vocab,
    in: hidden,
    codes: given("head.codes", [vocab, hidden / 4], "u32"),
    absmax: given("head.absmax", [vocab], "f32"),
  };
  const x = given("head.x", [tokens, hidden], "f32");
  const logits = given("head.logits", [tokens, vocab], "f32");
  const dx = given("head.dx", [tokens, hidden], "f32");
  return [
    callProductForward("logits", { x, weight, y: logits }, { N: tokens, half: half && "split" }),
    ...[false, true].map((accumulate) =>
      callProductBackward("head dX", { dy: logits, weight, dx }, { N: tokens, half, accumulate }),
    ),
  ];
}

function callsOf(name, capacity, base, computeDtype) {
  const full = geometry(name);
  const arch = { ...full, layers: LAYERS, windows: full.windows.slice(0, LAYERS) };
  const linear = () => base;
  const layoutOf = (momentBits) =>
    adapterLayout(targetModules(allModules(arch), ADAPTER), ADAPTER, (m) => m.layer, momentBits);
  const layout = layoutOf(32);
  const shape = {
    arch,
    linear,
    table: "bf16",
    head: "bf16",
    layout,
    capacity,
    positions: capacity,
    evaluates: true,
  };
  const { programs } = planRun(shape, defaultChoices(shape, { ...SETTINGS, compute_dtype: computeDtype }));
  const model = modelTensors(arch, {
    linear,
    table: "bf16",
    head: { format: "bf16" },
    hostEmbedding: false,
    residentLayers: LAYERS,
    positions: capacity,
    maxBindingBytes: PORTABLE_TRAITS.maxBindingBytes,
    adapter: layout,
  });
  const generation = generationTensors(model, 1024, 128);
  return [
    ...programs,
    optimizerProgram(layoutOf(8), streamTensors(capacity)),
    {
      calls: [quantizeCall(arch), swigluCall(arch, 256), ...int8HeadCalls(arch, 256, computeDtype === "f16")],
    },
    generationProgram("prefill", model, generation, { N: 128, capacity: 128, row: 0 }),
    generationProgram("decode", model, generation, { N: 1, capacity: 1, row: 0 }),
  ]
    .flatMap((program) => program.calls)
    .filter((call) => call.kernel.transfer === undefined);
}

/** All calls with the name of their model: computing in f32, then what activations in 16 bits and products in f16 do otherwise. */
export function* modelCalls() {
  for (const computeDtype of ["f32", "auto", "f16"]) {
    for (const [name, tokens] of Object.entries(MODELS)) {
      for (const [base, format] of Object.entries(BASES)) {
        for (const call of callsOf(name, tokens, format, computeDtype))
          yield { model: `${name} ${base}`, call };
      }
    }
  }
}
