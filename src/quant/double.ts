/**
 * Double quantisation of block maxima (QLoRA, section 3) as bitsandbytes: the mean is taken away, then blocks of 256 are
 * coded in 8 bits with the signed dynamic map (Dettmers, arXiv 1511.04561).
 */
import { DYNAMIC_MAP, nearestEntry } from "./dynamic.js";

const BLOCK = 256;
const { fround } = Math;

/** How bitsandbytes picks a code: published checkpoints were mostly made by "cuda"; the two differ in about 1 of 550. */
export type AbsmaxRule = "cuda" | "cpu";

export interface DoubleAbsmax {
  /** [blocks] indices into the map. */
  readonly codes: Uint8Array;
  /** [ceil(blocks / 256)] largest magnitude of (absmax - offset) in each nested block. */
  readonly nestedAbsmax: Float32Array;
  /** The mean of absmax, an f32 number. */
  readonly offset: number;
}

/**
 * For each entry but the last the largest f32 that still gets it or one below: between two entries the search always ends on the
 * same one of them, so that one comparison tells what its path would.
 */
function cudaBounds(): Float32Array {
  const bounds = new Float32Array(256).fill(Infinity);
  const bits = new Int32Array(bounds.buffer);
  for (let code = 0; code < 255; code++) {
    bounds[code] = fround(fround(DYNAMIC_MAP[code]! + DYNAMIC_MAP[code + 1]!) * 0.5);
    // Where the middle itself belongs to the upper entry, the bound is the f32 below it.
    if (nearestEntry(DYNAMIC_MAP, bounds[code]!) > code)
      bits[code] = bits[code]! + (bounds[code]! > 0 ? -1 : 1);
  }
  return bounds;
}

/** Cells over [-1, 1] in which the search for a bound starts. */
const CELLS = 2048;
let cudaTable: { readonly bounds: Float32Array; readonly start: Uint8Array } | undefined;

/** The same entries as `nearestEntry`, several times faster. @param x in [-1, 1] */
function cudaEntry(x: number): number {
  if (!cudaTable) {
    const start = Uint8Array.from({ length: CELLS + 1 }, (_, cell) =>
      nearestEntry(DYNAMIC_MAP, (2 * cell) / CELLS - 1),
    );
    cudaTable = { bounds: cudaBounds(), start };
  }
  const { bounds, start } = cudaTable;
  let code = start[(x * (CELLS / 2) + CELLS / 2) | 0]!;
  while (x > bounds[code]!) code++;
  return code;
}

let cpuTable: Uint8Array | undefined;

/** bitsandbytes' CPU table over [-1, 1] in 65,536 steps: how many midpoints of the map lie strictly below each. */
function tableOfCpu(): Uint8Array {
  if (cpuTable) return cpuTable;
  cpuTable = new Uint8Array(65536);
  let code = 0;
  for (let i = 0; i < 65536; i++) {
    const x = fround(-1 + fround((2 * i) / 65535));
    while (code < 255 && fround(0.5 * fround(DYNAMIC_MAP[code]! + DYNAMIC_MAP[code + 1]!)) < x) code++;
    cpuTable[i] = code;
  }
  return cpuTable;
}

/** @param x in [-1, 1] after clamping */
function cpuEntry(x: number): number {
  const half = fround(fround(Math.min(1, Math.max(-1, x)) + 1) * 0.5);
  return tableOfCpu()[Math.trunc(fround(fround(half * 65535) + 0.5))]!;
}

/** The mean in f32 of an f64 sum: torch sums in f32, in an order that depends on the machine (up to 2e-6 apart). */
function mean(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return fround(sum / values.length);
}

/**
 * @param absmax [blocks] f32, at least one
 * @param offset the f32 number to take away (default: the mean)
 */
export function quantizeAbsmax(
  absmax: Float32Array,
  rule: AbsmaxRule,
  offset: number = mean(absmax),
): DoubleAbsmax {
  const codes = new Uint8Array(absmax.length);
  const nestedAbsmax = new Float32Array(Math.ceil(absmax.length / BLOCK));
  const entry = rule === "cuda" ? cudaEntry : cpuEntry;
  for (let block = 0; block < nestedAbsmax.length; block++) {
    const start = block * BLOCK;
    const end = Math.min(absmax.length, start + BLOCK);
    let largest = 0;
    for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(fround(absmax[i]! - offset)));
    nestedAbsmax[block] = largest;
    if (largest === 0) continue; // code 0 by both rules
    const inverse = fround(1 / largest);
    for (let i = start; i < end; i++) codes[i] = entry(fround(fround(absmax[i]! - offset) * inverse));
  }
  return { codes, nestedAbsmax, offset };
}

/**
 * map[code] * nestedAbsmax + offset, rounded to f32 after each step.
 * @param map [256] of the checkpoint (default: the dynamic map)
 * @returns [blocks] f32
 */
export function dequantizeAbsmax(
  codes: Uint8Array,
  nestedAbsmax: Float32Array,
  offset: number,
  map: Float32Array = DYNAMIC_MAP,
): Float32Array {
  const absmax = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    absmax[i] = fround(map[codes[i]!]! * nestedAbsmax[Math.floor(i / BLOCK)]!) + offset;
  }
  return absmax;
}
