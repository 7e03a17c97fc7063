/** A head in int8 as the loader writes it, tied or not, whole or in parts. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { int8RowBytes } from "../../src/quant/int8.js";
import { FIXTURES, floatTensors, readJson } from "../fixture_files.js";
import { loadedBytes } from "./loaded_bytes.js";

const CODES = /^lm_head\.weight(?: from row (\d+))?\.codes$/;

/** The codes and maxima of all rows, from as many parts as there are. */
async function loadedHead(
  folder: string,
  maxBindingBytes: number,
): Promise<{ parts: readonly number[]; codes: Int8Array; absmax: Float32Array }> {
  const how = { quant: "nf4", doubleQuant: true, head: { format: "int8" }, maxBindingBytes } as const;
  const loaded = await loadedBytes(folder, how);
  const heads = [...loaded].filter(([name]) => CODES.test(name));
  const joined = (name: (codes: string) => string): ArrayBuffer => {
    const all = Buffer.concat(heads.map(([codes]) => loaded.get(name(codes))!));
    return new Uint8Array(all).buffer;
  };
  return {
    parts: heads.map(([name]) => Number(CODES.exec(name)?.[1] ?? 0)),
    codes: new Int8Array(joined((name) => name)),
    absmax: new Float32Array(joined((name) => name.replace(/codes$/, "absmax"))),
  };
}

describe("a head in int8", () => {
  for (const [model, table] of [
    ["llama", "lm_head.weight"],
    ["mistral", "lm_head.weight"],
    ["qwen2", "model.embed_tokens.weight"],
  ] as const) {
    it(`of ${model} is ${table} to half a code, the same in parts`, async () => {
      const folder = join(FIXTURES, "models", model);
      const values = (await floatTensors(join(folder, "model.safetensors"))).get(table)!;
      const { hidden_size: hidden } = readJson(folder, "config.json") as { hidden_size: number };
      const vocab = values.length / hidden;
      const whole = await loadedHead(folder, 1 << 27);
      expect([whole.parts, whole.absmax.length]).toEqual([[0], vocab]);
      for (const [i, v] of values.entries()) {
        const row = Math.floor(i / hidden);
        const code = whole.codes[row * int8RowBytes(hidden) + (i % hidden)]!;
        expect(Math.abs((code / 127) * whole.absmax[row]! - v)).toBeLessThanOrEqual(
          whole.absmax[row]! / 253.9,
        );
      }
      const split = await loadedHead(folder, 128 * int8RowBytes(hidden));
      expect(split.parts).toEqual([0, 128, 256, 384].filter((row) => row < vocab));
      expect(split.absmax).toEqual(whole.absmax);
      expect(split.codes).toEqual(whole.codes);
    });
  }
});
