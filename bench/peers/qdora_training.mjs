// QDoRA steps by qdora, one for each line on stdin: the near side of peft_training.py, with the same lines of JSON.
import { randomUUID } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { resolveFinetuneConfig } from "../../dist/config/resolve.js";
import { openGpu } from "../../dist/gpu/device.js";
import { keepYoungSpaceSmall, peakResidentBytes, resetPeak } from "../../dist/report/process_memory.js";
import { stepBatches } from "../../dist/train/batches.js";
import { prepareRun } from "../../dist/train/prepare.js";
import { TrainingSession } from "../../dist/train/session.js";
import { adapterText, ownVersions } from "../shared/machine.mjs";

const asked = JSON.parse(process.argv[2]);
const say = (what) => console.log(JSON.stringify(what));

keepYoungSpaceSmall(); // as `qdora finetune` does
const gpu = await openGpu();
const runtimeBytes = process.memoryUsage.rss();
resetPeak();
const data = join(tmpdir(), `qdora-bench-${randomUUID()}.jsonl`);
writeFileSync(data, JSON.stringify({ input_ids: asked.ids }));
try {
  const config = await resolveFinetuneConfig({
    model: asked.model,
    data,
    output_dir: `${data}.out`,
    rank: asked.rank,
    alpha: asked.alpha,
    learning_rate: asked.learning_rate,
    gradient_checkpointing: asked.checkpointing,
    gradient_accumulation_steps: 1,
    max_steps: 1000,
  });
  const run = await prepareRun(config);
  const quiet = () => undefined;
  const session = await TrainingSession.open(run, gpu, quiet, quiet);
  const batches = stepBatches(run, 0);
  say({ versions: ownVersions(), adapter: adapterText(gpu.traits), planBytes: run.plan.totalBytes });
  let step = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    if (line !== "step") throw new Error(`got "${line}", expected "step"`);
    const began = performance.now();
    const scalars = { step: step++, learningRate: asked.learning_rate, weightDecay: 0, maxGradNorm: 1 };
    const { loss, gradNorm } = await session.step(batches, scalars);
    say({ loss, gradNorm, ms: performance.now() - began });
  }
  say({ runtimeBytes, peakBytes: peakResidentBytes() });
  await session.close();
} finally {
  rmSync(data);
  await gpu.destroy();
}
