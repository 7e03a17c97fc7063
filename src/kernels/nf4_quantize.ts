/** NF4 quantisation on the GPU, byte for byte as `quantizeNf4`: codes and block maxima of a matrix. */
import { bound, grid1d, option, size, type Call, type Kernel, type NumberArray } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { quantizeNf4 } from "../quant/nf4.js";

const LANES = 64;

const words = (call: Call): number => size(call, "out") * Math.ceil(size(call, "in") / 8);

export const nf4Quantize: Kernel = {
  name: "nf4_quantize",
  bindings: { values: "read", codes: "write", absmax: "write" },
  variants: [
    {
      name: "words",
      file: "nf4_quantize.wgsl",
      accepts: () => true,
      defines: (call) => ({ LANES, BLOCK: option(call, "BLOCK") }),
      grid: (call) => grid1d(Math.ceil(words(call) / LANES)),
    },
  ],
  twin(memory, call) {
    const [M, K] = [size(call, "out"), size(call, "in")];
    const quantized = quantizeNf4(
      Float32Array.from(bound(memory, "values").subarray(0, M * K)),
      option(call, "BLOCK"),
    );
    bound(memory, "absmax").set(quantized.absmax);
    packRows(quantized.codes, K, bound(memory, "codes").subarray(0, words(call)));
  },
  cost(call) {
    const count = size(call, "out") * size(call, "in");
    return { flops: 2 * count, bytes: 4 * count + 4 * words(call) + (4 * count) / option(call, "BLOCK") };
  },
};

/** bitsandbytes' bytes of a flat matrix with K columns as u32, each row from a new word on. */
function packRows(bytes: Uint8Array, K: number, out: NumberArray): void {
  const perRow = Math.ceil(K / 8);
  for (let word = 0; word < out.length; word++) {
    const [row, column] = [Math.floor(word / perRow), (word % perRow) * 8];
    let packed = 0;
    for (let k = column; k < Math.min(K, column + 8); k++) {
      const flat = row * K + k;
      const code = flat % 2 === 0 ? bytes[flat >> 1]! >> 4 : bytes[flat >> 1]! & 15;
      packed |= code << (4 * ((k - column) ^ 1));
    }
    out[word] = packed >>> 0;
  }
}

/**
 * @param t.values [out, in] f32, finite
 * @param t.codes u32 [out, ceil(in / 8)], overwritten: as `Nf4Weight.codes`, zeros after the end of a row
 * @param t.absmax [ceil(out * in / blockSize)] f32, overwritten: blocks run over the flattened matrix
 * @param sizes.blockSize a multiple of 8
 */
export function callNf4Quantize(
  label: string,
  t: { readonly values: Tensor; readonly codes: Tensor; readonly absmax: Tensor },
  sizes: { readonly out: number; readonly in: number; readonly blockSize: number },
): Call {
  if (sizes.blockSize % 8 !== 0)
    throw new Error(`${label}: block size ${sizes.blockSize} is no multiple of 8`);
  return {
    kernel: nf4Quantize,
    label,
    tensors: { ...t },
    sizes: { out: sizes.out, in: sizes.in },
    options: { BLOCK: sizes.blockSize },
  };
}
