// Loading a model, in one run: quantise-on-load of a bf16 folder, `quantize` into an NF4 folder, and loading that one. MB/s, and the host's peak
// memory: resident bytes minus the tensors that lie on a software adapter (whose memory is the host's), each phase in a process of its own.
// usage: npm run bench:load -- --model DIR | --geometry NAME [--layers N]  [--work DIR] [--cache warm|cold] [--rounds N] [--no-double-quant] [--lora] [--json]
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { adapterLayout } from "../dist/adapter/layout.js";
import { targetModules } from "../dist/adapter/targets.js";
import { openCheckpoint } from "../dist/formats/checkpoint.js";
import { openGpu } from "../dist/gpu/device.js";
import { readArchitecture } from "../dist/model/config.js";
import { linearFormats, loadModel, storedFormat } from "../dist/model/load.js";
import { allModules } from "../dist/model/modules.js";
import { quantizeModel } from "../dist/model/quantize.js";
import { modelTensors } from "../dist/model/tensors.js";
import { Executor } from "../dist/program/executor.js";
import { planMemory } from "../dist/program/planner.js";
import { tensorBytes } from "../dist/program/tensor.js";
import { writeSyntheticModel } from "../scripts/synthetic_model.mjs";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    geometry: { type: "string" },
    layers: { type: "string" },
    work: { type: "string", default: tmpdir() },
    cache: { type: "string", default: "warm" },
    rounds: { type: "string", default: "1" },
    "no-double-quant": { type: "boolean", default: false },
    lora: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    phase: { type: "string" },
    out: { type: "string" },
  },
});

const rss = () => process.memoryUsage.rss();
const seconds = (start) => (performance.now() - start) / 1000;

/** Shapes of a model as `finetune` has them: an adapter on all linear modules, with or without magnitudes. */
async function describe(folder) {
  const arch = await readArchitecture(folder);
  const checkpoint = await openCheckpoint(folder);
  const settings = {
    useDora: !flags.lora,
    useRslora: false,
    rank: 16,
    alpha: 32,
    targetModules: "all-linear",
    excludeModules: undefined,
    rankPattern: {},
    alphaPattern: {},
  };
  const table = storedFormat(checkpoint, "model.embed_tokens.weight", [arch.vocab, arch.hidden]);
  const model = modelTensors(arch, {
    linear: await linearFormats(checkpoint, arch, "nf4", !flags["no-double-quant"]),
    table,
    head: { format: table },
    hostEmbedding: false,
    hostSquares: false,
    residentLayers: arch.layers,
    positions: 256,
    maxBindingBytes: 1 << 27,
    adapter: adapterLayout(targetModules(allModules(arch), settings), settings, (m) => m.layer),
  });
  const bytes = [...checkpoint.tensors.values()].reduce((sum, t) => sum + t.byteLength, 0);
  await checkpoint.close();
  return { model, bytes };
}

/** Every tensor that loading fills. */
function tensorsOf(model) {
  const found = new Map();
  const visit = (value) => {
    if (typeof value !== "object" || value === null) return;
    if ("dtype" in value && "kind" in value && "shape" in value) found.set(value.name, value);
    else Object.values(value).forEach(visit);
  };
  const { embedding, head, finalNorm, layers, ropeTable } = model;
  visit([embedding, head, finalNorm, ropeTable]);
  // Of an adapter only what comes from the base model.
  for (const { linears, ...norms } of layers) {
    visit(norms);
    for (const { adapter: _, ...linear } of Object.values(linears)) visit(linear);
  }
  return [...found.values()];
}

/** Loads a folder on the GPU and prints the figures as one JSON line. */
async function load(folder) {
  const gpu = await openGpu();
  const { model, bytes } = await describe(folder);
  const executor = await Executor.allocate(gpu, planMemory([], 0, tensorsOf(model)));
  await executor.idle();
  const runtime = rss();
  const touched = new Set();
  let [peak, gpuBytes] = [0, 0];
  const sample = () => (peak = Math.max(peak, rss() - (gpu.traits.isSoftware ? gpuBytes : 0)));
  const timer = setInterval(sample, 20);
  const start = performance.now();
  await loadModel(folder, model, {
    async write(t, data, offset) {
      sample();
      await executor.write(t, data, offset);
      // The first write clears the whole buffer.
      if (!touched.has(t.name)) {
        touched.add(t.name);
        gpuBytes += tensorBytes(t);
      }
    },
  });
  await executor.idle();
  const time = seconds(start);
  clearInterval(timer);
  sample();
  const result = { adapter: gpu.traits.name, seconds: time, bytes, gpuBytes, runtime, peak };
  await executor.release();
  await gpu.destroy();
  return result;
}

async function quantize(folder, out) {
  const runtime = rss();
  let peak = 0;
  const start = performance.now();
  const made = await quantizeModel(folder, out, {
    doubleQuant: !flags["no-double-quant"],
    onProgress: () => (peak = Math.max(peak, rss())),
  });
  return { seconds: seconds(start), bytes: made.sourceBytes, written: made.bytes, runtime, peak };
}

if (flags.phase !== undefined) {
  const result = flags.phase === "load" ? await load(flags.model) : await quantize(flags.model, flags.out);
  process.stdout.write(`${JSON.stringify(result)}\n`);
  process.exit();
}

/** Reads a folder's weights into the page cache, or asks the system to drop them from it. */
function setCache(folder) {
  for (const name of readdirSync(folder).filter((n) => n.endsWith(".safetensors"))) {
    const file = join(folder, name);
    const command =
      flags.cache === "cold"
        ? [`if=${file}`, "iflag=nocache", "count=0"]
        : [`if=${file}`, "of=/dev/null", "bs=8M"];
    const { status } = spawnSync("dd", command, { stdio: "ignore" });
    if (status !== 0) console.error(`note: the page cache could not be set for ${file}`);
  }
}

/** One phase in a process of its own. */
function phase(name, folder, more = []) {
  setCache(folder);
  const passed = ["no-double-quant", "lora"].filter((f) => flags[f]).map((f) => `--${f}`);
  const script = fileURLToPath(import.meta.url);
  const args = [script, "--phase", name, "--model", folder, ...passed, ...more];
  const run = spawnSync(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" });
  if (run.status !== 0) throw new Error(`${name} of ${folder} failed (${run.status ?? run.signal})`);
  return JSON.parse(run.stdout);
}

if ((flags.model === undefined) === (flags.geometry === undefined)) {
  console.error(
    "error: bench:load: give either --model or --geometry\nhint: --geometry llama-2-7b --layers 2",
  );
  process.exit(2);
}
if (!["warm", "cold"].includes(flags.cache)) {
  console.error(`error: bench:load: --cache: got ${flags.cache}\nhint: warm or cold`);
  process.exit(2);
}

const work = mkdtempSync(join(flags.work, "qdora-bench-"));
const leave = (signal) => {
  rmSync(work, { recursive: true, force: true });
  process.exit(signal === "SIGINT" ? 130 : 143);
};
process.on("SIGINT", leave).on("SIGTERM", leave);
try {
  const source = flags.model ?? join(work, "model");
  if (flags.geometry !== undefined)
    await writeSyntheticModel(flags.geometry, source, {
      layers: flags.layers === undefined ? undefined : Number(flags.layers),
    });
  const ready = join(work, "nf4");
  const quantized = phase("quantize", source, ["--out", ready]);
  const rounds = Array.from({ length: Number(flags.rounds) }, () => [
    phase("load", source),
    phase("load", ready),
  ]);
  const best = (index) => rounds.map((r) => r[index]).toSorted((a, b) => a.seconds - b.seconds)[0];
  const [onLoad, atOnce] = [best(0), best(1)];
  const row = (r) => ({
    seconds: Number(r.seconds.toFixed(2)),
    file_bytes: r.bytes,
    megabytes_per_second: Math.round(r.bytes / 1e6 / r.seconds),
    host_peak_bytes: r.peak,
    host_above_runtime_bytes: r.peak - r.runtime,
  });
  const result = {
    adapter: onLoad.adapter,
    cache: flags.cache,
    method: flags.lora ? "lora" : "dora",
    gpu_bytes: onLoad.gpuBytes,
    quantize: row(quantized),
    quantise_on_load: row(onLoad),
    load_quantised: row(atOnce),
    speed_up: Number((onLoad.seconds / atOnce.seconds).toFixed(2)),
  };
  if (flags.json) console.log(JSON.stringify(result));
  else {
    console.log(
      `${result.adapter}, ${flags.cache} page cache, ${result.method}, ${result.gpu_bytes} bytes on the GPU`,
    );
    console.table({
      "qdora quantize": result.quantize,
      "quantise on load": result.quantise_on_load,
      "load quantised": result.load_quantised,
    });
    console.log(`the quantised folder loads ${result.speed_up} times as fast`);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
