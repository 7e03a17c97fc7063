/** Tensors of merged models against whole matrices in f64: over bases as stored, over NF4, and over folders that hold NF4. */
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint, readAsF32 } from "../../src/formats/checkpoint.js";
import { adapterKey, readPeftAdapter, writePeftAdapter, type PeftAdapter } from "../../src/formats/peft.js";
import { writeSafetensors } from "../../src/formats/safetensors.js";
import { openMerged, type Base, type MergedModel } from "../../src/model/merged.js";
import { dequantizeAbsmax, quantizeAbsmax } from "../../src/quant/double.js";
import { dequantizeNf4, quantizeNf4 } from "../../src/quant/nf4.js";
import { FIXTURES } from "../fixture_files.js";
import { expectRefusal, temporaryFolder } from "../formats/made_files.js";
import { readyMadeNf4 } from "./ready_made.js";

const STORED: Base = { kind: "stored" };
const NF4: Base = { kind: "nf4", doubleQuant: false };
const NF4_DOUBLE: Base = { kind: "nf4", doubleQuant: true };

const model = (name: string): string => join(FIXTURES, "models", name);
const adapterOf = (name: string): string => join(FIXTURES, "training", name, "expected", "adapter");

async function wholeTensor(merged: MergedModel, name: string, pieceValues?: number, multiple?: number) {
  const tensor = merged.tensors.find((t) => t.name === name)!;
  const parts: Float32Array[] = [];
  for await (const values of tensor.pieces({ pieceValues, multiple })) parts.push(values);
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return { tensor, values: all, parts };
}

function requantised(values: Float32Array, double: boolean): Float32Array {
  const { codes, absmax } = quantizeNf4(values, 64);
  if (!double) return dequantizeNf4(codes, absmax, values.length, 64);
  const d = quantizeAbsmax(absmax, "cuda");
  return dequantizeNf4(codes, dequantizeAbsmax(d.codes, d.nestedAbsmax, d.offset), values.length, 64);
}

/** (m / ||V||) V with V = W + s B A, densely and in f64; without a magnitude V itself. */
function dense(weight: Float32Array, adapter: PeftAdapter, path: string): Float64Array {
  const part = (name: "lora_A" | "lora_B" | "magnitude") => adapter.tensors.get(adapterKey(path, name));
  const [a, b, m] = [part("lora_A")!, part("lora_B")!, part("magnitude")];
  const [rank = 0, width = 0] = a.shape;
  const { lora_alpha: alpha, use_rslora: stabilised } = adapter.config;
  const scaling = alpha / (stabilised ? Math.sqrt(rank) : rank);
  const out = new Float64Array(weight.length);
  for (let j = 0; j * width < weight.length; j++) {
    const row = Array.from({ length: width }, (_, k) => {
      let delta = 0;
      for (let r = 0; r < rank; r++) delta += b.data[j * rank + r]! * a.data[r * width + k]!;
      return weight[j * width + k]! + scaling * delta;
    });
    const gain = m ? m.data[j]! / Math.hypot(...row) : 1;
    out.set(
      row.map((v) => gain * v),
      j * width,
    );
  }
  return out;
}

const apart = (got: Float32Array, want: ArrayLike<number>): number =>
  got.reduce((worst, v, i) => Math.max(worst, Math.abs(v - want[i]!)), 0);

/** Weights of the fixtures stay below 2: an f32 rounding is 6e-8. */
const TOLERANCE = 2e-7;

describe("openMerged", () => {
  for (const [name, base] of [
    ["dora_llama", STORED],
    ["qlora_llama", NF4],
    ["qdora_llama", NF4],
    ["qdora_llama_dq", NF4_DOUBLE],
    ["qdora_rslora_llama", NF4],
    ["qdora_qwen2", NF4],
  ] as const) {
    it(`${name}: every weight equals the dense sum in f64`, async () => {
      const folder = model(name.endsWith("qwen2") ? "qwen2" : "llama");
      const adapter = await readPeftAdapter(adapterOf(name));
      const checkpoint = await openCheckpoint(folder);
      const merged = await openMerged({ model: folder, adapter: adapterOf(name), base });
      expect(merged.tensors.map((t) => t.name).toSorted()).toEqual([...checkpoint.tensors.keys()].toSorted());
      expect(merged.unused).toEqual([]);
      for (const { name: tensor } of merged.tensors) {
        const stored = await readAsF32(checkpoint, checkpoint.tensors.get(tensor)!);
        const { values } = await wholeTensor(merged, tensor);
        const path = tensor.replace(/\.weight$/, "");
        if (!adapter.tensors.has(adapterKey(path, "lora_A"))) {
          expect(values, tensor).toEqual(stored);
          continue;
        }
        const from = base.kind === "stored" ? stored : requantised(stored, base.doubleQuant);
        expect(apart(values, dense(from, adapter, path)), tensor).toBeLessThan(TOLERANCE);
      }
      await merged.close();
      await checkpoint.close();
    });
  }

  it("without an adapter, the NF4 base is what NF4 leaves of every linear weight", async () => {
    const checkpoint = await openCheckpoint(model("llama"));
    const merged = await openMerged({ model: model("llama"), base: NF4_DOUBLE });
    const name = "model.layers.1.mlp.down_proj.weight";
    const stored = await readAsF32(checkpoint, checkpoint.tensors.get(name)!);
    expect((await wholeTensor(merged, name)).values).toEqual(requantised(stored, true));
    await merged.close();
    await checkpoint.close();
  });

  it("a folder that holds NF4 gives its own values, for either base", async () => {
    const ready = await readyMadeNf4(model("llama"));
    const checkpoint = await openCheckpoint(model("llama"));
    const name = "model.layers.0.self_attn.q_proj.weight";
    const stored = await readAsF32(checkpoint, checkpoint.tensors.get(name)!);
    const { codes, absmax } = quantizeNf4(stored, 64);
    const d = quantizeAbsmax(absmax, "cpu");
    const want = dequantizeNf4(codes, dequantizeAbsmax(d.codes, d.nestedAbsmax, d.offset), stored.length, 64);
    for (const base of [STORED, NF4]) {
      const merged = await openMerged({ model: ready, base });
      const { tensor, values } = await wholeTensor(merged, name);
      expect(values).toEqual(want);
      expect(tensor.dtype).toBe("F32");
      expect(merged.unused).toEqual([]);
      await merged.close();
    }
    await checkpoint.close();
    await rm(ready, { recursive: true });
  });

  for (const [name, base] of [
    ["stored", STORED],
    ["nf4", NF4],
    ["nf4 with double quantisation", NF4_DOUBLE],
  ] as const) {
    it(`pieces of any size give the same numbers: ${name}`, async () => {
      const source = { model: model("llama"), adapter: adapterOf("dora_llama"), base };
      const merged = await openMerged(source);
      for (const tensor of ["model.layers.0.mlp.down_proj.weight", "model.embed_tokens.weight"]) {
        const whole = await wholeTensor(merged, tensor);
        const cut = await wholeTensor(merged, tensor, 1000, 3);
        expect(whole.parts.length).toBe(1);
        expect(cut.parts.length).toBeGreaterThan(5);
        const rows = 3 * (whole.tensor.shape[1] ?? 0);
        expect(cut.parts.slice(0, -1).every((part) => part.length % rows === 0)).toBe(true);
        expect(cut.values).toEqual(whole.values);
      }
      await merged.close();
    });
  }

  it("names what the folder holds beyond the model", async () => {
    const folder = temporaryFolder();
    await cp(model("llama"), folder, { recursive: true });
    const checkpoint = await openCheckpoint(folder);
    const tensors = new Map(
      await Promise.all(
        [...checkpoint.tensors.values()].map(
          async (e) => [e.name, { dtype: e.dtype, shape: e.shape, data: await checkpoint.read(e) }] as const,
        ),
      ),
    );
    await checkpoint.close();
    const extra = { dtype: "F32", shape: [8], data: new Uint8Array(32) } as const;
    await writeSafetensors(
      join(folder, "model.safetensors"),
      new Map([...tensors, ["model.layers.0.self_attn.rotary_emb.inv_freq", extra]]),
    );
    const merged = await openMerged({ model: folder, base: STORED });
    expect(merged.unused).toEqual(["model.layers.0.self_attn.rotary_emb.inv_freq"]);
    await merged.close();
  });

  it("refuses an adapter of another model, and numbers that merging makes infinite", async () => {
    const other = openMerged({ model: model("qwen3"), adapter: adapterOf("dora_llama"), base: STORED });
    await expectRefusal(other, "dora_llama", /has shape|has no/);

    const adapter = await readPeftAdapter(adapterOf("qlora_llama"));
    const huge = new Map(
      [...adapter.tensors].map(([key, t]) => [key, { ...t, data: t.data.map(() => 1e30) }]),
    );
    const folder = temporaryFolder();
    await writePeftAdapter(folder, adapter.config, huge);
    const merged = await openMerged({ model: model("llama"), adapter: folder, base: STORED });
    await expectRefusal(
      wholeTensor(merged, "model.layers.0.self_attn.q_proj.weight"),
      folder,
      /merging .*q_proj\.weight gives Infinity at index 0/,
    );
    await merged.close();
  });
});
