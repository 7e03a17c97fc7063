/** Names, types and row order of tensors in GGUF. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ggufName, ggufTensors, interleaveHalves, type GgufType } from "../../src/export/gguf_tensors.js";
import { f32ToF16 } from "../../src/formats/floats.js";
import type { GgufTensor } from "../../src/formats/gguf.js";
import { openMerged } from "../../src/model/merged.js";
import { FIXTURES } from "../fixture_files.js";

const open = (name: string) =>
  openMerged({ model: join(FIXTURES, "models", name), base: { kind: "stored" } });

async function types(model: string, type: GgufType): Promise<Record<string, string>> {
  const merged = await open(model);
  const tensors = ggufTensors(merged, type);
  await merged.close();
  return Object.fromEntries(tensors.filter((t) => !t.name.startsWith("blk.1")).map((t) => [t.name, t.type]));
}

async function allBytes(t: GgufTensor): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of t.data()) pieces.push(piece);
  return Buffer.concat(pieces);
}

describe("ggufTensors", () => {
  it("qwen2: every tensor once, weights in the type that was asked for", async () => {
    const layer = (type: string) => ({
      "blk.0.attn_norm.weight": "F32",
      "blk.0.ffn_norm.weight": "F32",
      "blk.0.attn_q.weight": type,
      "blk.0.attn_q.bias": "F32",
      "blk.0.attn_k.weight": type,
      "blk.0.attn_k.bias": "F32",
      "blk.0.attn_v.weight": type,
      "blk.0.attn_v.bias": "F32",
      "blk.0.attn_output.weight": type,
      "blk.0.ffn_gate.weight": type,
      "blk.0.ffn_up.weight": type,
      "blk.0.ffn_down.weight": type,
      "output_norm.weight": "F32",
    });
    expect(await types("qwen2", "f16")).toEqual({ "token_embd.weight": "F16", ...layer("F16") });
    expect(await types("qwen2", "q8_0")).toEqual({ "token_embd.weight": "Q8_0", ...layer("Q8_0") });
    expect(await types("qwen2", "q4_0")).toEqual({ "token_embd.weight": "Q8_0", ...layer("Q4_0") });
  });

  it("llama: the head is there where it is not tied; qwen3: norms of q and k", async () => {
    expect(await types("llama", "q4_0")).toMatchObject({ "output.weight": "Q8_0" });
    expect(await types("qwen3", "q4_0")).toMatchObject({
      "blk.0.attn_q_norm.weight": "F32",
      "blk.0.attn_k_norm.weight": "F32",
    });
  });

  it("rows of q and k are reordered for llama and mistral, not for qwen", async () => {
    for (const [name, isReordered] of [
      ["llama", true],
      ["mistral", true],
      ["qwen2", false],
      ["qwen3", false],
    ] as const) {
      const merged = await open(name);
      const { headDim } = merged.arch;
      for (const [short, path] of [
        ["attn_q", "q_proj"],
        ["attn_k", "k_proj"],
        ["attn_v", "v_proj"],
      ] as const) {
        const source = merged.tensors.find((t) => t.name === `model.layers.0.self_attn.${path}.weight`)!;
        const target = ggufTensors(merged, "f16").find((t) => t.name === `blk.0.${short}.weight`)!;
        const { value: values } = (await source.pieces().next()) as { value: Float32Array };
        const reordered = interleaveHalves(values, headDim, source.shape[1] ?? 0);
        expect(reordered).not.toEqual(values);
        const want = f32ToF16(isReordered && short !== "attn_v" ? reordered : values);
        expect(await allBytes(target), `${name} ${short}`).toEqual(Buffer.from(want.buffer));
      }
      await merged.close();
    }
  });

  it("a head of (half, pair) becomes (pair, half)", () => {
    // Two heads of four rows of two values; a value says its row.
    const rows = Float32Array.from({ length: 16 }, (_, i) => Math.floor(i / 2));
    const order = [...interleaveHalves(rows, 4, 2)].filter((_, i) => i % 2 === 0);
    expect(order).toEqual([0, 2, 1, 3, 4, 6, 5, 7]);
    expect([...interleaveHalves(Float32Array.of(0, 1, 2, 3), 4, 1)]).toEqual([0, 2, 1, 3]);
  });

  it("llama3's scaling becomes a tensor of divisors", async () => {
    const merged = await open("llama");
    const rope = {
      type: "llama3",
      theta: 500000,
      attentionFactor: 1,
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalPositions: 8192,
    } as const;
    const tensors = ggufTensors({ ...merged, arch: { ...merged.arch, headDim: 64, rope } }, "f16");
    await merged.close();
    const freqs = tensors.at(-1)!;
    expect([freqs.name, freqs.type, freqs.shape]).toEqual(["rope_freqs.weight", "F32", [32]]);
    const factors = new Float32Array(Uint8Array.from(await allBytes(freqs)).buffer);
    // The formula of llama.cpp's converter.
    const want = Array.from({ length: 32 }, (_, i) => {
      const wavelength = 2 * Math.PI * 500000 ** ((2 * i) / 64);
      if (wavelength < 8192 / 4) return 1;
      if (wavelength > 8192 / 1) return 8;
      const smooth = (8192 / wavelength - 1) / (4 - 1);
      return 1 / ((1 - smooth) / 8 + smooth);
    });
    expect(new Set(want).size).toBeGreaterThan(3);
    expect(Math.max(...want.map((v, i) => Math.abs(factors[i]! / v - 1)))).toBeLessThan(1e-5);
  });

  it("knows no name for other tensors", () => {
    expect(() => ggufName("model.layers.0.rotary.inv_freq")).toThrow(/no GGUF name/);
  });
});
