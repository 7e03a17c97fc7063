// DoRA against LoRA on the same model, batch and rank: time of an optimizer step of 1,024 tokens, and bytes on the GPU.
// usage: npm run bench:dora [-- --model FOLDER] [--rounds N] [--rows 4] [--length 256] [--quant nf4|none] [--profile] [--json]   (the model: SmolLM2-135M of `npm run test:real`)
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { resolveFinetuneConfig } from "../dist/config/resolve.js";
import { openGpu } from "../dist/gpu/device.js";
import { measureProductPeak } from "../dist/kernels/product_peak.js";
import { profileTable } from "../dist/report/profile.js";
import { median } from "../dist/train/median.js";
import { prepareRun } from "../dist/train/prepare.js";
import { profiled } from "../dist/train/profile.js";
import { TrainingSession } from "../dist/train/session.js";
import { stepBatches } from "../dist/train/batches.js";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: process.env.QDORA_SMOLLM2 ?? "" },
    rounds: { type: "string", default: "5" },
    quant: { type: "string", default: "nf4" },
    rows: { type: "string", default: "4" },
    length: { type: "string", default: "256" },
    rank: { type: "string", default: "16" },
    profile: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
if (flags.model === "") {
  console.error("error: bench:dora: no model\nhint: give --model FOLDER, or QDORA_SMOLLM2=FOLDER");
  process.exit(2);
}

const [ROWS, LENGTH] = [Number(flags.rows), Number(flags.length)];
const VOCAB = 32000;
/** Numbers in a fixed order; the time of a step does not depend on what the tokens are. */
const ids = Array.from({ length: ROWS }, (_, row) =>
  Array.from({ length: LENGTH }, (__, i) => (row * 7919 + i * 104729) % VOCAB),
);
const folder = mkdtempSync(join(tmpdir(), "qdora-bench-"));
const data = join(folder, "rows.jsonl");
writeFileSync(data, ids.map((input_ids) => JSON.stringify({ input_ids })).join("\n"));

const gpu = await openGpu();

async function open(use_dora) {
  const config = await resolveFinetuneConfig({
    model: flags.model,
    data,
    output_dir: join(folder, "out"),
    quant: flags.quant,
    rank: Number(flags.rank),
    use_dora,
    batch_size: ROWS,
    gradient_accumulation_steps: 1,
    max_steps: 1000,
  });
  const run = await prepareRun(config);
  const session = await TrainingSession.open(
    run,
    gpu,
    () => {},
    () => {},
  );
  return { run, session, batches: stepBatches(run, 0), times: [], step: 0 };
}

async function step(side) {
  await side.session.executor.idle();
  const start = performance.now();
  await side.session.step(side.batches, {
    step: side.step++,
    learningRate: 1e-4,
    weightDecay: 0,
    maxGradNorm: 1,
  });
  return performance.now() - start;
}

async function profile(side, name) {
  const { profile: timed } = await profiled(side.session.executor, side.step + 1, () => step(side));
  console.log(name);
  console.log(profileTable({ ...timed, peak: await measureProductPeak(gpu) }));
}

try {
  const [lora, dora] = [await open(false), await open(true)];
  // The first steps compile.
  for (const side of [lora, dora]) await step(side);
  if (flags.profile) {
    await profile(lora, "LoRA");
    await profile(dora, "DoRA");
  }
  // Each round times both, one after the other, so that the machine's moods hit both.
  const ratios = [];
  for (let round = 0; round < Number(flags.rounds); round++) {
    for (const side of round % 2 === 0 ? [lora, dora] : [dora, lora]) side.times.push(await step(side));
    ratios.push(dora.times.at(-1) / lora.times.at(-1));
  }
  const bytes = (side) => side.run.plan.totalBytes;
  const result = {
    adapter: gpu.traits.name,
    tokens: ROWS * LENGTH,
    lora_ms: Math.round(median(lora.times)),
    dora_ms: Math.round(median(dora.times)),
    time_ratio: Number(median(ratios).toFixed(4)),
    lora_bytes: bytes(lora),
    dora_bytes: bytes(dora),
    bytes_ratio: Number((bytes(dora) / bytes(lora)).toFixed(4)),
  };
  if (flags.json) console.log(JSON.stringify(result));
  else {
    console.log(
      `${result.adapter}, ${result.tokens} tokens per optimizer step, rank ${flags.rank}, ${flags.quant}`,
    );
    console.table([
      {
        method: "LoRA",
        "ms per step": result.lora_ms,
        "tok/s": Math.round((result.tokens / result.lora_ms) * 1000),
        "GPU bytes": result.lora_bytes,
      },
      {
        method: "DoRA",
        "ms per step": result.dora_ms,
        "tok/s": Math.round((result.tokens / result.dora_ms) * 1000),
        "GPU bytes": result.dora_bytes,
      },
    ]);
    console.log(
      `DoRA / LoRA: time ${result.time_ratio} (median of ${flags.rounds} pairs), bytes ${result.bytes_ratio}`,
    );
  }
  await lora.session.close();
  await dora.session.close();
} finally {
  await gpu.destroy();
  rmSync(folder, { recursive: true, force: true });
}
