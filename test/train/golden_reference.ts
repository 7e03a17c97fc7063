/** A golden run with no GPU: every call by its f64 twin. */
import { adapterFromPeft } from "../../src/adapter/peft.js";
import type { FinetuneConfig } from "../../src/config/resolve.js";
import { readPeftAdapter } from "../../src/formats/peft.js";
import { loadModel } from "../../src/model/load.js";
import { HostEmbedding } from "../../src/model/host_embedding.js";
import { EMBEDDING_ROWS, microBatchProgram } from "../../src/model/programs.js";
import { ROW_SQUARES } from "../../src/model/tensors.js";
import { ReferenceMemory, runReference } from "../../src/program/reference.js";
import { tensorBytes, type Tensor } from "../../src/program/tensor.js";
import { stepBatches } from "../../src/train/batches.js";
import { optimizerProgram, optimizerTables, stepScalars } from "../../src/train/optimizer.js";
import { prepareRun } from "../../src/train/prepare.js";
import { byPeftName, goldenRate, type GoldenStep, type Values } from "./golden_run.js";

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

export interface ReferenceRun {
  readonly steps: readonly GoldenStep[];
  /** Of the first step, by PEFT name. */
  readonly gradients: Values;
  readonly adapter: Values;
}
export async function trainByReference(config: FinetuneConfig): Promise<ReferenceRun> {
  const run = await prepareRun(config);
  const { stream, layout, capacity } = run;
  const embedding = await HostEmbedding.open(config.model, run.arch);
  const memory = new ReferenceMemory();
  await loadModel(config.model, run.model, { write: (t, bytes, offset) => memory.load(t, bytes, offset) });
  // Row squares wait on the host.
  const { rowSquares } = run.model;
  const host = new Map<string, Uint8Array>();
  if (rowSquares) host.set(ROW_SQUARES, memory.bytes(rowSquares, tensorBytes(rowSquares)));
  for (const [t, values] of optimizerTables(layout)) memory.load(t, bytesOf(values));
  const start = adapterFromPeft(layout, await readPeftAdapter(config.init_adapter!), "init");
  for (const m of layout.modules.values()) {
    const values = start.get(m.path)!;
    memory.load(m.parameters.a, bytesOf(values.a));
    memory.load(m.parameters.b, bytesOf(values.b));
    if (m.parameters.magnitude && values.magnitude)
      memory.load(m.parameters.magnitude, bytesOf(values.magnitude));
  }
  const read = (tensors: ReadonlyMap<string, Tensor>): Values =>
    new Map([...tensors].map(([name, t]) => [name, Float32Array.from(memory.array(t))]));
  const optimizer = optimizerProgram(layout, stream, undefined);
  const steps: GoldenStep[] = [];
  let gradients: Values = new Map();
  for (let step = 0; step < run.totalSteps; step++) {
    const learningRate = goldenRate(config, run, step);
    const batches = stepBatches(run, step);
    const scored = batches.reduce((sum, b) => sum + b.scored, 0);
    memory.load(
      stream.step,
      bytesOf(
        stepScalars({
          step,
          scored,
          learningRate,
          weightDecay: config.weight_decay,
          maxGradNorm: config.max_grad_norm,
        }),
      ),
    );
    memory.load(stream.totals, new Uint8Array(64));
    for (const batch of batches) {
      memory.load(stream.tokens, bytesOf(batch.inputIds));
      memory.load(stream.positions, bytesOf(batch.positions));
      memory.load(
        stream.spans,
        bytesOf(
          Uint32Array.from(
            { length: 2 * batch.tokens },
            (_, i) => (i % 2 === 0 ? batch.sequenceStart : batch.sequenceEnd)[i >> 1]!,
          ),
        ),
      );
      memory.load(stream.labels, bytesOf(batch.labels));
      const rows = await embedding.rows(batch.inputIds);
      const sizes = { N: batch.tokens, capacity, checkpointing: "full" as const, storage: run.storage };
      host.set(EMBEDDING_ROWS, bytesOf(rows));
      runReference(microBatchProgram(run.model, stream, sizes), memory, { afterUpdate: true, host });
    }
    if (step === 0) gradients = read(byPeftName(layout, "gradients"));
    runReference(optimizer, memory);
    const totals = memory.array(stream.totals);
    steps.push({ loss: totals[0]! / scored, grad_norm: totals[1]!, learning_rate: learningRate });
  }
  await embedding.close();
  run.dataset.close();
  return { steps, gradients, adapter: read(byPeftName(layout, "parameters")) };
}
