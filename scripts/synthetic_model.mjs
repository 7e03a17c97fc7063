// The folder that make_synthetic_model.mjs writes: names and shapes from the architecture, values from a seeded generator, streamed.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFolder } from "../dist/formats/output_folder.js";
import { plannedBytes, SafetensorsStream } from "../dist/formats/safetensors_stream.js";
import { architectureOf } from "../dist/model/config.js";
import { geometryConfig } from "../dist/model/geometries.js";
import { layerModules, layerPath } from "../dist/model/modules.js";

const WEIGHT = { mean: 0, deviation: 0.02 };
const BIAS = { mean: 0, deviation: 0.5 };
const NORM = { mean: 1, deviation: 0.1 };

/** Every tensor of an architecture: name, shape, mean and deviation of its values. */
function tensorsOf(arch) {
  const all = [];
  const add = (name, shape, values) => all.push({ name, dtype: "BF16", shape, values });
  add("model.embed_tokens.weight", [arch.vocab, arch.hidden], WEIGHT);
  for (let layer = 0; layer < arch.layers; layer++) {
    const path = layerPath(layer);
    for (const norm of ["input_layernorm", "post_attention_layernorm"])
      add(`${path}.${norm}.weight`, [arch.hidden], NORM);
    if (arch.qkNorm)
      for (const norm of ["q_norm", "k_norm"]) add(`${path}.self_attn.${norm}.weight`, [arch.headDim], NORM);
    for (const m of layerModules(arch, layer)) {
      add(`${m.path}.weight`, [m.out, m.in], WEIGHT);
      if (m.bias) add(`${m.path}.bias`, [m.out], BIAS);
    }
  }
  add("model.norm.weight", [arch.hidden], NORM);
  if (!arch.tied) add("lm_head.weight", [arch.vocab, arch.hidden], WEIGHT);
  return all;
}

const RANKS = 65536;
let deviates;

/** Normal deviates of 65,536 equally likely ranks, by adding up the density from -6 on. */
function normalDeviates() {
  if (deviates) return deviates;
  deviates = new Float64Array(RANKS);
  const step = 1e-5;
  let [area, rank] = [0, 0];
  for (let x = -6; rank < RANKS && x < 6; x += step) {
    area += (Math.exp((x * x) / -2) / Math.sqrt(2 * Math.PI)) * step;
    while (rank < RANKS && area >= (rank + 0.5) / RANKS) deviates[rank++] = x;
  }
  return deviates;
}

/** The same as bf16 bits of a mean and a deviation. */
function quantiles({ mean, deviation }) {
  const values = Float32Array.from(normalDeviates(), (x) => mean + deviation * x);
  const bits = new Uint32Array(values.buffer);
  return Uint16Array.from(bits, (b) => (b + 0x7fff + ((b >>> 16) & 1)) >>> 16);
}

/** Fills pairs of bf16 from Marsaglia's xorshift (13, 17, 5): each word gives two ranks. @returns the next state */
function fill(pairs, table, state) {
  let x = state;
  for (let i = 0; i < pairs.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    pairs[i] = (table[x >>> 16] << 16) | table[x & 0xffff];
  }
  return x;
}

/** Tensors in order, a new file where the next would make one too large. */
function shardsOf(tensors, maxBytes) {
  const shards = [];
  let bytes = Infinity;
  for (const t of tensors) {
    const more = plannedBytes(new Map([[t.name, t]]), new Map());
    if (bytes + more > maxBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1).push(t);
    bytes += more;
  }
  return shards;
}

/**
 * @param out must not exist, or be empty; appears whole or not at all
 * @returns bytes of all tensors
 * @throws QdoraError when there is not enough space, before anything is written
 */
export async function writeSyntheticModel(geometry, out, { layers, seed = 0, maxShardBytes = 5e9 }) {
  const config = {
    ...geometryConfig(geometry),
    ...(layers !== undefined && { num_hidden_layers: layers }),
    hidden_act: "silu",
    torch_dtype: "bfloat16",
  };
  const shards = shardsOf(tensorsOf(architectureOf(config, geometry)), maxShardBytes);
  const planned = (tensors) => new Map(tensors.map((t) => [t.name, { dtype: t.dtype, shape: t.shape }]));
  const needed = shards.reduce((sum, tensors) => sum + plannedBytes(planned(tensors), new Map()), 0);
  const tables = new Map([WEIGHT, BIAS, NORM].map((v) => [v, quantiles(v)]));
  const piece = new Uint32Array(1 << 21);
  // Any state but 0 will do.
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ (seed / 2 ** 32)) | 1;
  let total = 0;
  await writeFolder(out, needed, async (folder) => {
    const weightMap = {};
    for (const [i, tensors] of shards.entries()) {
      const number = (n) => String(n).padStart(5, "0");
      const name = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
      const file = await SafetensorsStream.create(join(folder, name), planned(tensors), new Map());
      try {
        for (const t of tensors) {
          const words = Math.ceil(t.shape.reduce((a, b) => a * b, 1) / 2);
          for (let at = 0; at < words; at += piece.length) {
            const part = piece.subarray(0, Math.min(piece.length, words - at));
            state = fill(part, tables.get(t.values), state);
            await file.append(t.name, new Uint8Array(part.buffer, 0, part.byteLength));
          }
          weightMap[t.name] = name;
        }
        total += await file.finish();
      } finally {
        await file.close();
      }
    }
    const index = { metadata: { total_size: total }, weight_map: weightMap };
    await writeFile(join(folder, "model.safetensors.index.json"), `${JSON.stringify(index, null, 2)}\n`);
    await writeFile(join(folder, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
  });
  return total;
}
