/** The logits of every token of one stream: what the golden models are compared with. */
import { PORTABLE_TRAITS } from "../../src/gpu/traits.js";
import type { Gpu } from "../../src/gpu/device.js";
import { openCheckpoint } from "../../src/formats/checkpoint.js";
import { callRmsNormForward } from "../../src/kernels/rms_norm.js";
import { readArchitecture } from "../../src/model/config.js";
import { KEEP_NONE } from "../../src/model/layer.js";
import { layerForward } from "../../src/model/layer_forward.js";
import { linearFormats, loadModel, storedFormat, type TensorSink } from "../../src/model/load.js";
import { embeddingCalls, logitsCalls, streamContext, streamTensors } from "../../src/model/programs.js";
import { modelTensors, type ModelTensors } from "../../src/model/tensors.js";
import { Executor } from "../../src/program/executor.js";
import type { Call, Program } from "../../src/program/kernel.js";
import { planMemory } from "../../src/program/planner.js";
import { ReferenceMemory, runReference } from "../../src/program/reference.js";
import { tensor, type Tensor } from "../../src/program/tensor.js";
import { chooseFrom } from "../../src/program/tuner.js";

export interface BaseStorage {
  readonly quant: "nf4" | "none";
  readonly doubleQuant: boolean;
}

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

async function describeModel(folder: string, how: BaseStorage, positions: number): Promise<ModelTensors> {
  const arch = await readArchitecture(folder);
  const checkpoint = await openCheckpoint(folder);
  const table = storedFormat(checkpoint, "model.embed_tokens.weight", [arch.vocab, arch.hidden]);
  const model = modelTensors(arch, {
    linear: await linearFormats(checkpoint, arch, how.quant, how.doubleQuant),
    table,
    head: {
      format: arch.tied ? table : storedFormat(checkpoint, "lm_head.weight", [arch.vocab, arch.hidden]),
    },
    hostEmbedding: false,
    hostSquares: false,
    residentLayers: arch.layers,
    positions,
    maxBindingBytes: PORTABLE_TRAITS.maxBindingBytes,
    adapter: undefined,
  });
  await checkpoint.close();
  return model;
}

/**
 * @param rows token ids, laid end to end
 * @param gpu the executor's; without it the f64 reference runs
 * @returns [tokens, vocab]
 */
export async function wholeLogits(
  folder: string,
  how: BaseStorage,
  rows: readonly (readonly number[])[],
  gpu?: Gpu,
): Promise<Float32Array> {
  const N = rows.reduce((sum, row) => sum + row.length, 0);
  const model = await describeModel(folder, how, Math.max(...rows.map((row) => row.length)));
  const { arch } = model;
  const stream = streamTensors(N);
  const ctx = streamContext(model, stream, { N, capacity: N, checkpointing: "full" });
  const input = (layer: number): Tensor => tensor(`input.${layer}`, [N, arch.hidden]);
  const calls: Call[] = [...embeddingCalls(model, stream.tokens, input(0), N)];
  for (const w of model.layers)
    calls.push(...layerForward(ctx, w, input(w.layer), input(w.layer + 1), KEEP_NONE));
  const hn = tensor("final norm", [N, arch.hidden]);
  const logits = tensor("all logits", [N, arch.vocab], "f32", "cache");
  calls.push(
    callRmsNormForward(
      "final norm",
      { x: input(arch.layers), weight: model.finalNorm, y: hn },
      { rows: N, D: arch.hidden, eps: arch.normEps },
    ),
  );
  calls.push(...logitsCalls(model, hn, logits, N, 0));
  const program: Program = { name: "logits", calls };

  const starts = rows.map((_, i) => rows.slice(0, i).reduce((sum, row) => sum + row.length, 0));
  const data: readonly (readonly [Tensor, ArrayBufferView])[] = [
    [stream.tokens, Uint32Array.from(rows.flat())],
    [stream.positions, Uint32Array.from(rows.flatMap((row) => row.map((_, i) => i)))],
    [
      stream.spans,
      Uint32Array.from(rows.flatMap((row, r) => row.flatMap(() => [starts[r]!, starts[r]! + row.length]))),
    ],
  ];
  if (!gpu) {
    const memory = new ReferenceMemory();
    const sink: TensorSink = { write: (t, bytes, offset) => memory.load(t, bytes, offset) };
    await loadModel(folder, model, sink);
    for (const [t, values] of data) memory.load(t, bytesOf(values));
    runReference(program, memory);
    return Float32Array.from(memory.array(logits));
  }
  const executor = await Executor.allocate(gpu, planMemory([program], 1 << 20));
  await executor.load([program], chooseFrom(new Map()));
  await loadModel(folder, model, executor);
  for (const [t, values] of data) await executor.write(t, bytesOf(values));
  await executor.run(program);
  const out = new Float32Array(await executor.read(logits));
  await executor.release();
  return out;
}
