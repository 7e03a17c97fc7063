/** The f64 twins of the products: the weight decoded whole, then three plain loops. */
import { NF4_TABLE } from "../quant/nf4.js";
import { bound, option, size, type Call, type NumberArray, type TwinMemory } from "../program/kernel.js";
import { rowScales } from "./row_scale.js";

/** The weight of a product call, [out, in] in f64. */
export function decodeWeight(memory: TwinMemory, call: Call, out: number, inputs: number): Float64Array {
  const w = new Float64Array(out * inputs);
  if (option(call, "INT8")) {
    decodeInt8(w, bound(memory, "codes"), bound(memory, "absmax"), inputs);
    return w;
  }
  if (!option(call, "NF4")) {
    w.set(bound(memory, "values").subarray(0, w.length));
    return w;
  }
  const [codes, absmax] = [bound(memory, "codes"), bound(memory, "absmax")];
  const scale = option(call, "DOUBLE")
    ? doubleScale(absmax, size(call, "codesWord"))
    : (i: number): number => absmax[i]!;
  const block = option(call, "BLOCK");
  const words = Math.ceil(inputs / 8);
  for (let row = 0; row < out; row++) {
    for (let k = 0; k < inputs; k++) {
      const code = (codes[row * words + (k >> 3)]! >>> (4 * ((k & 7) ^ 1))) & 15;
      w[row * inputs + k] = NF4_TABLE[code]! * scale(Math.floor((row * inputs + k) / block));
    }
  }
  return w;
}

/** Signed bytes, four to a word; a row starts at a whole word. */
function decodeInt8(w: Float64Array, codes: NumberArray, absmax: NumberArray, inputs: number): void {
  const words = Math.ceil(inputs / 4);
  for (let i = 0; i < w.length; i++) {
    const row = Math.floor(i / inputs);
    const k = i % inputs;
    const byte = (codes[row * words + (k >> 2)]! >>> (8 * (k & 3))) & 255;
    w[i] = ((byte < 128 ? byte : byte - 256) / 127) * absmax[row]!;
  }
}

/** absmax of a block from its double-quantised form, rounded to f32 as bitsandbytes does. */
function doubleScale(absmax: NumberArray, codesWord: number): (block: number) => number {
  const words = Uint32Array.from(absmax);
  const floats = new Float32Array(words.buffer);
  const codes = new Uint8Array(words.buffer, 4 * codesWord);
  return (block) => Math.fround(floats[codes[block]!]! * floats[257 + (block >> 8)]! + floats[256]!);
}

/** y = epilogue(x op(W) + p op(B)); op transposes in forward only. */
export function productTwin(memory: TwinMemory, call: Call): void {
  const isBackward = option(call, "BACKWARD") === 1;
  const [N, K, M, rank] = [size(call, "N"), size(call, "K"), size(call, "M"), size(call, "rank")];
  const w = isBackward ? decodeWeight(memory, call, K, M) : decodeWeight(memory, call, M, K);
  if (isBackward) {
    const g = rowScales(memory, call);
    for (let i = 0; i < w.length; i++) w[i] = w[i]! * g(Math.floor(i / M));
  }
  const [x, y] = [bound(memory, "x"), bound(memory, "y")];
  const lowrank = option(call, "LOWRANK") ? { p: bound(memory, "p"), b: bound(memory, "b") } : undefined;
  const scaleBias = option(call, "SCALE_BIAS") ? bound(memory, "scale_bias") : undefined;
  const isScaleOnly = option(call, "SCALE_ONLY") === 1;
  const residual = option(call, "RESIDUAL") ? bound(memory, "residual") : undefined;
  const [wj, wk] = isBackward ? [1, M] : [K, 1];
  const [bj, br] = isBackward ? [1, M] : [rank, 1];
  for (let t = 0; t < N; t++) {
    const xAt = (size(call, "xRow") + t) * size(call, "xStride") + size(call, "xColumn");
    const yAt = (size(call, "yRow") + t) * size(call, "yStride") + size(call, "yColumn");
    for (let j = 0; j < M; j++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += x[xAt + k]! * w[j * wj + k * wk]!;
      if (lowrank)
        for (let r = 0; r < rank; r++) sum += lowrank.p[t * rank + r]! * lowrank.b[j * bj + r * br]!;
      if (scaleBias)
        sum = isScaleOnly ? scaleBias[j]! * sum : scaleBias[2 * j]! * sum + scaleBias[2 * j + 1]!;
      if (residual) sum += residual[t * M + j]!;
      y[yAt + j] = option(call, "ADD") ? y[yAt + j]! + sum : sum;
    }
  }
}
