// What an adapter costs in generation, and that a merged model costs nothing: tokens per second of base, base + adapter and merged model, in turns.
// usage: npm run bench:merged [-- MODEL] [--adapter FOLDER] [--rounds 7] [--prompt 128] [--tokens 64] [--rank 16] [--json]   (default: models/tiny; without --adapter one is trained for a step)
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chooseBase, finetune, Generator, mergeAdapter } from "../dist/index.js";
import { median } from "../dist/train/median.js";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    adapter: { type: "string" },
    rounds: { type: "string", default: "7" },
    prompt: { type: "string", default: "128" },
    tokens: { type: "string", default: "64" },
    rank: { type: "string", default: "16" },
    json: { type: "boolean", default: false },
  },
});
const [model = "models/tiny"] = positionals;
const [ROUNDS, PROMPT, TOKENS] = [flags.rounds, flags.prompt, flags.tokens].map(Number);
const folder = mkdtempSync(join(tmpdir(), "qdora-bench-"));
/** Numbers in a fixed order; the time of a token does not depend on which it is. */
const ids = (count) => Array.from({ length: count }, (_, i) => 1 + ((i * 7919) % 250));

async function trainedAdapter() {
  const data = join(folder, "rows.jsonl");
  writeFileSync(data, `${JSON.stringify({ input_ids: ids(32) })}\n`);
  const { outputDir } = await finetune({
    model,
    data,
    output_dir: join(folder, "adapter"),
    rank: Number(flags.rank),
    learning_rate: 1e-3,
    warmup_steps: 0,
    gradient_accumulation_steps: 1,
    max_steps: 1,
    tune: "off",
  });
  return outputDir;
}

async function merged(name, adapter, requantize) {
  const outputDir = join(folder, name);
  const { base } = await chooseBase(model, adapter);
  await mergeAdapter({ model, adapter, outputDir, base, requantize, maxShardBytes: 5e9 });
  return outputDir;
}

/** A model on a device of its own, with the times of its rounds. */
async function open(name, options) {
  const generator = await Generator.open({ doubleQuant: true, context: PROMPT + TOKENS, ...options });
  const side = { name, generator, prompt: [], token: [] };
  await round(side);
  side.prompt.length = side.token.length = 0;
  side.bytes = generator.gpu.ledger.peakBytes;
  return side;
}

async function round({ generator, prompt, token }) {
  generator.reset();
  let start = performance.now();
  await generator.feed(ids(PROMPT));
  prompt.push((PROMPT * 1000) / (performance.now() - start));
  start = performance.now();
  for (const id of ids(TOKENS)) await generator.feed([id]);
  token.push((TOKENS * 1000) / (performance.now() - start));
}

/** The median of the rounds' own ratios: what hits a whole round hits both sides. */
const ratio = (a, b) => Number(median(a.map((value, i) => value / b[i])).toFixed(4));

/** Lets the sides of one type take turns, each round in another order. */
async function compare(quant, sides) {
  const opened = [];
  try {
    for (const [name, options] of Object.entries(sides)) opened.push(await open(name, { quant, ...options }));
    for (let i = 0; i < ROUNDS; i++)
      for (let k = 0; k < opened.length; k++) await round(opened[(i + k) % opened.length]);
    const [base] = opened;
    return opened.map((side) => ({
      weights: quant === "none" ? "as stored" : "NF4",
      what: side.name,
      prompt_tokens_per_second: Math.round(median(side.prompt)),
      prompt_ratio: ratio(side.prompt, base.prompt),
      tokens_per_second: Number(median(side.token).toFixed(1)),
      ratio: ratio(side.token, base.token),
      gpu_bytes: side.bytes,
      adapter: side.generator.gpu.traits.name,
    }));
  } finally {
    for (const { generator } of opened) await generator.close();
  }
}

try {
  const adapter = flags.adapter ?? (await trainedAdapter());
  const results = [
    ...(await compare("none", {
      base: { model },
      "base + adapter": { model, adapter },
      merged: { model: await merged("merged", adapter) },
    })),
    ...(await compare("nf4", {
      base: { model },
      "base + adapter": { model, adapter },
      "merged, quantised again": { model: await merged("merged-nf4", adapter, { doubleQuant: true }) },
    })),
  ];
  if (flags.json) console.log(JSON.stringify(results));
  else {
    console.log(`${results[0].adapter}, ${model}, prompt of ${PROMPT} tokens, then ${TOKENS} single ones`);
    console.table(
      results.map((r) => ({
        weights: r.weights,
        what: r.what,
        "prompt tok/s": r.prompt_tokens_per_second,
        "/ base": r.prompt_ratio,
        "new tok/s": r.tokens_per_second,
        "/ base ": r.ratio,
        "GPU bytes": r.gpu_bytes,
      })),
    );
    console.log(`/ base: median of ${ROUNDS} rounds' ratios`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
