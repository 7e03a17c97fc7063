/** Reads the golden data of bitsandbytes in test/fixtures/nf4, and makes the hardest values for its rounding. */
import { readFileSync } from "node:fs";
import { bf16ToF32, f16ToF32 } from "../../src/formats/floats.js";
import { NF4_BOUNDS } from "../../src/quant/nf4.js";

const FOLDER = new URL("../fixtures/nf4/", import.meta.url);

export interface Nf4Case {
  readonly file: string;
  readonly dtype: "float32" | "float16" | "bfloat16";
  readonly shape: readonly [number, number];
  readonly blocksize: number;
  readonly numel: number;
}

export const nf4Cases = (
  JSON.parse(readFileSync(new URL("manifest.json", FOLDER), "utf8")) as { cases: Nf4Case[] }
).cases;

export interface GoldenTensors {
  f32(name: string): Float32Array;
  u8(name: string): Uint8Array;
  /** Any float type, widened. */
  widened(name: string): Float32Array;
}

/** The tensors of one safetensors file of the folder. */
export function goldenTensors(file: string): GoldenTensors {
  const bytes = readFileSync(new URL(file, FOLDER));
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >;
  const of = (name: string): { dtype: string; u8: Uint8Array<ArrayBuffer> } => {
    const { dtype, data_offsets } = header[name]!;
    const [from, to] = data_offsets;
    return { dtype, u8: Uint8Array.from(bytes.subarray(8 + headerBytes + from, 8 + headerBytes + to)) };
  };
  return {
    f32: (name) => new Float32Array(of(name).u8.buffer),
    u8: (name) => of(name).u8,
    widened(name) {
      const { dtype, u8 } = of(name);
      if (dtype === "BF16") return bf16ToF32(new Uint16Array(u8.buffer));
      if (dtype === "F16") return f16ToF32(new Uint16Array(u8.buffer));
      return new Float32Array(u8.buffer);
    },
  };
}

/** Compares bits, so that -0 is not 0. @returns "equal", or where the first byte differs */
export function compareBits(
  got: Uint8Array | Uint16Array | Float32Array,
  want: Uint8Array | Float32Array,
): string {
  const [a, b] = [got, want].map((array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  if (a!.length !== b!.length) return `${a!.length} bytes, not ${b!.length}`;
  const at = a!.findIndex((byte, i) => byte !== b![i]);
  return at < 0 ? "equal" : `byte ${at} is ${a![at]}, not ${b![at]}`;
}

const word = new Uint32Array(1);
const real = new Float32Array(word.buffer);

/** The f32 that lies `steps` away from zero. */
function neighbour(value: number, steps: number): number {
  real[0] = value;
  word[0] = word[0]! + steps;
  return real[0];
}

/** Blocks of 64 for each maximum and bound: the maximum, then the 63 f32 around bound times maximum. */
export function blocksAroundBounds(maxima: readonly number[]): Float32Array {
  const blocks: number[] = [];
  for (const top of maxima.map(Math.fround)) {
    for (const bound of NF4_BOUNDS) {
      blocks.push(top);
      for (let steps = -31; steps <= 31; steps++) {
        const value = neighbour(bound * Math.max(top, 1e-38), steps);
        blocks.push(Math.abs(value) < top ? value : 0);
      }
    }
  }
  return Float32Array.from(blocks);
}

/** Blocks of 64 with values that, times the reciprocal of the maximum, lie exactly halfway between a bound and the f32 above it. */
export function blocksOfTies(): Float32Array {
  const blocks: number[] = [];
  for (const bound of NF4_BOUNDS) {
    const middle = (bound + neighbour(bound, Math.sign(bound))) / 2;
    const exponent = Math.floor(Math.log2(Math.abs(middle)));
    const whole = Math.abs(middle) * 2 ** (24 - exponent); // 25 bits, odd
    for (let factor = 3; factor * factor <= whole; factor += 2) {
      if (whole % factor !== 0) continue;
      for (const part of [factor, whole / factor]) {
        const inverse = part / 2 ** Math.ceil(Math.log2(part));
        const top = Math.fround(1 / inverse);
        const value = middle / inverse;
        if (Math.fround(1 / top) === inverse && Math.fround(value) === value) {
          blocks.push(top, value, ...new Float32Array(62));
        }
      }
    }
  }
  return Float32Array.from(blocks);
}
