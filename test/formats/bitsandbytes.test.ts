import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readBnbNf4, type BnbNf4 } from "../../src/formats/bitsandbytes.js";
import { openCheckpoint, readAsF32, type Checkpoint } from "../../src/formats/checkpoint.js";
import {
  readSafetensorsHeader,
  writeSafetensors,
  type TensorToWrite,
} from "../../src/formats/safetensors.js";
import { expectRefusal, FIXTURES, temporaryFolder } from "./made_files.js";

const DOUBLE = join(FIXTURES, "nf4/bnb_checkpoint");
const SINGLE = join(FIXTURES, "nf4/bnb_checkpoint_f32_single");
const WEIGHT = "model.layers.0.self_attn.q_proj.weight";
const STATE = `${WEIGHT}.quant_state.bitsandbytes__nf4`;

async function using<T>(folder: string, work: (checkpoint: Checkpoint) => Promise<T>): Promise<T> {
  const checkpoint = await openCheckpoint(folder);
  try {
    return await work(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

const read = (folder: string): Promise<BnbNf4 | undefined> => using(folder, (c) => readBnbNf4(c, WEIGHT));
const readHeader = (folder: string) => using(folder, (c) => readBnbNf4(c, WEIGHT, { headerOnly: true }));

type Tensors = Map<string, TensorToWrite>;

/** A copy of a fixture folder's file with some tensors changed. */
async function changed(source: string, change: (tensors: Tensors) => void): Promise<string> {
  const path = join(source, "model.safetensors");
  const file = readFileSync(path);
  const tensors: Tensors = new Map();
  for (const e of (await readSafetensorsHeader(path)).tensors.values())
    tensors.set(e.name, {
      ...e,
      data: Uint8Array.from(file.subarray(e.byteOffset, e.byteOffset + e.byteLength)),
    });
  change(tensors);
  const folder = temporaryFolder();
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
  return folder;
}

const text = (value: unknown): TensorToWrite => {
  const data = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
  return { dtype: "U8", shape: [data.length], data };
};

describe("readBnbNf4", () => {
  it("reads a weight with double quantisation", async () => {
    const weight = (await read(DOUBLE))!;
    expect(weight).toMatchObject({
      shape: [64, 64],
      blockSize: 64,
      doubleQuant: true,
      offset: 0.361419677734375,
    });
    if (!weight.doubleQuant) throw new Error("expected double quantisation");
    expect(weight.codes.byteLength).toBe(2048);
    expect(weight.absmaxCodes.length).toBe(64);
    expect(weight.nestedAbsmax.length).toBe(1);
    await using(DOUBLE, async (c) => {
      expect(weight.codes).toEqual(c.tensors.get(WEIGHT));
      expect(weight.absmaxCodes).toEqual(await c.read(c.tensors.get(`${WEIGHT}.absmax`)!));
      expect(weight.nestedMap).toEqual(await readAsF32(c, c.tensors.get(`${WEIGHT}.nested_quant_map`)!));
    });
    const tables = await readSafetensorsHeader(join(FIXTURES, "nf4/tables.safetensors"));
    const { file, byteOffset, byteLength } = tables.tensors.get("dynamic_map")!;
    const map = Uint8Array.from(readFileSync(file).subarray(byteOffset, byteOffset + byteLength));
    expect(weight.nestedMap).toEqual(new Float32Array(map.buffer));
  });

  it("reads a weight without", async () => {
    const weight = (await read(SINGLE))!;
    expect(weight).toMatchObject({ shape: [64, 64], blockSize: 64, doubleQuant: false });
    if (weight.doubleQuant) throw new Error("expected plain block maxima");
    expect(weight.codes.byteLength).toBe(2048);
    await using(SINGLE, async (c) => {
      expect(weight.absmax).toEqual(await readAsF32(c, c.tensors.get(`${WEIGHT}.absmax`)!));
    });
  });

  it("reads every weight of both folders, and only the JSON text when that is enough", async () => {
    for (const folder of [DOUBLE, SINGLE]) {
      await using(folder, async (checkpoint) => {
        const names = [...checkpoint.tensors.keys()].filter((n) => n.endsWith("_proj.weight"));
        expect(names.length).toBe(7);
        for (const name of names) {
          const whole = (await readBnbNf4(checkpoint, name))!;
          const taken: string[] = [];
          const watched: Checkpoint = {
            ...checkpoint,
            read: (entry, ...span) => {
              taken.push(entry.name);
              return checkpoint.read(entry, ...span);
            },
          };
          const header = await readBnbNf4(watched, name, { headerOnly: true });
          expect(header).toEqual({
            shape: whole.shape,
            blockSize: whole.blockSize,
            doubleQuant: whole.doubleQuant,
          });
          expect(taken).toEqual([`${name}.quant_state.bitsandbytes__nf4`]);
        }
      });
    }
  });

  it("is undefined for weights that are not quantised or not there", async () => {
    await using(DOUBLE, async (c) => {
      expect(await readBnbNf4(c, "lm_head.weight")).toBeUndefined();
      expect(await readBnbNf4(c, "nothing.weight", { headerOnly: true })).toBeUndefined();
    });
  });

  const state = { quant_type: "nf4", blocksize: 64, dtype: "float32", shape: [64, 64] };
  const nested = { ...state, nested_blocksize: 256, nested_dtype: "float32", nested_offset: 0.5 };
  it.each<readonly [string, unknown, RegExp]>([
    ["fp4", { ...state, quant_type: "fp4" }, /quant_type/],
    ["a block size of 32", { ...state, blocksize: 32 }, /blocksize/],
    ["a block size of 100", { ...state, blocksize: 100 }, /blocksize/],
    [
      "a block size that does not fit absmax",
      { ...state, blocksize: 128 },
      /absmax" is F32 \[64\], its quant_state needs F32 \[32\]/,
    ],
    ["an unknown dtype", { ...state, dtype: "float64" }, /dtype/],
    ["no dtype", { ...state, dtype: undefined }, /dtype/],
    ["three dimensions", { ...state, shape: [4, 16, 64] }, /shape/],
    ["a side of 0", { ...state, shape: [0, 64] }, /shape/],
    ["a side of 1.5", { ...state, shape: [1.5, 64] }, /shape/],
    [
      "a shape that does not fit the codes",
      { ...state, shape: [64, 65] },
      /is U8 \[2048, 1\], its quant_state needs U8 \[2080, 1\]/,
    ],
    ["an unknown key", { ...state, surprise: 1 }, /surprise/],
    ["a doubled key", JSON.stringify(state).replace("{", '{"blocksize":128,'), /"blocksize" twice/],
    ["no object", [state], /quant_state/],
    ["no JSON", "{", /is not valid JSON/],
    ["nested keys over plain maxima", nested, /absmax" is F32 \[64\], its quant_state needs U8 \[64\]/],
  ])("refuses a quant_state with %s", async (_, value, fact) => {
    const folder = await changed(SINGLE, (t) => t.set(STATE, text(value)));
    await expectRefusal(read(folder), "model.safetensors", fact);
    await expectRefusal(readHeader(folder), "model.safetensors", fact);
  });

  it.each<readonly [string, unknown, RegExp]>([
    ["another nested block", { ...nested, nested_blocksize: 128 }, /nested_blocksize/],
    ["no nested offset", { ...nested, nested_offset: undefined }, /nested_offset/],
    ["another nested dtype", { ...nested, nested_dtype: "float16" }, /nested_dtype/],
    ["no nested keys over coded maxima", state, /absmax" is U8 \[64\], its quant_state needs F32 \[64\]/],
  ])("refuses a nested quant_state with %s", async (_, value, fact) => {
    const folder = await changed(DOUBLE, (t) => t.set(STATE, text(value)));
    await expectRefusal(readHeader(folder), "model.safetensors", fact);
  });

  it.each<readonly [string, (t: Tensors) => void, RegExp]>([
    ["without quant_map", (t) => t.delete(`${WEIGHT}.quant_map`), /quant_map" is missing/],
    ["without absmax", (t) => t.delete(`${WEIGHT}.absmax`), /absmax" is missing/],
    ["without nested_absmax", (t) => t.delete(`${WEIGHT}.nested_absmax`), /nested_absmax" is missing/],
    [
      "without nested_quant_map",
      (t) => t.delete(`${WEIGHT}.nested_quant_map`),
      /nested_quant_map" is missing/,
    ],
    ["without codes", (t) => t.delete(WEIGHT), /q_proj.weight" is missing/],
    [
      "with codes stored in another type",
      (t) => t.set(WEIGHT, { dtype: "BF16", shape: [1024, 1], data: new Uint16Array(1024) }),
      /is BF16 \[1024, 1\], its quant_state needs U8 \[2048, 1\]/,
    ],
    [
      "with a quant_state that is too long",
      (t) => t.set(STATE, text(" ".repeat(70000))),
      /not a short text in bytes/,
    ],
    [
      "that is FP4",
      (t) => t.set(`${WEIGHT}.quant_state.bitsandbytes__fp4`, text("{}")),
      /q_proj.weight" is quantised to FP4/,
    ],
    [
      "that is LLM.int8",
      (t) => {
        t.set(WEIGHT, { dtype: "I8", shape: [64, 64], data: new Int8Array(4096) });
        t.set(WEIGHT.replace("weight", "SCB"), { dtype: "F32", shape: [64], data: new Float32Array(64) });
      },
      /q_proj.weight" is quantised to 8 bits/,
    ],
  ])("refuses a weight %s, from the header alone", async (_, change, fact) => {
    await expectRefusal(readHeader(await changed(DOUBLE, change)), "model.safetensors", fact);
  });

  it.each<readonly [string, (t: Tensors) => void, RegExp]>([
    [
      "levels that are not NF4's, by one bit",
      (t) => ((t.get(`${WEIGHT}.quant_map`)!.data as Uint8Array)[4]! ^= 1),
      /does not hold the 16 levels of NF4/,
    ],
    [
      "a maximum that is not a number",
      (t) => t.set(`${WEIGHT}.nested_absmax`, { dtype: "F32", shape: [1], data: Float32Array.of(NaN) }),
      /nested_absmax" holds NaN at index 0/,
    ],
    [
      "a negative maximum",
      (t) => t.set(`${WEIGHT}.nested_absmax`, { dtype: "F32", shape: [1], data: Float32Array.of(-1) }),
      /nested_absmax" holds -1 at index 0/,
    ],
    [
      "an infinite place in the nested map",
      (t) =>
        t.set(`${WEIGHT}.nested_quant_map`, {
          dtype: "F32",
          shape: [256],
          data: new Float32Array(256).fill(Infinity, 3),
        }),
      /nested_quant_map" holds Infinity at index 3/,
    ],
  ])("refuses %s", async (_, change, fact) => {
    await expectRefusal(read(await changed(DOUBLE, change)), "model.safetensors", fact);
  });
});
