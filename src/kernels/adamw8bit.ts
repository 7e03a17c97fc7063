/**
 * AdamW with both moments in 8 bits, bitsandbytes' blockwise optimizer (Dettmers et al., arXiv 2110.02861): blocks of 256
 * values with their largest magnitude in f32 and codes of the dynamic map. `step` and `totals` are those of adamw.ts.
 * Codes are found as in bitsandbytes' CUDA kernel. Weight decay comes before the step, as in torch and in bitsandbytes'
 * CPU and 32-bit optimizers; the CUDA kernel has it after, which differs by the decay of one step.
 */
import { bound, grid1d, size, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { nearestEntry } from "../quant/dynamic.js";

/** Values that share a maximum. */
export const MOMENT_BLOCK = 256;
/** Blocks a workgroup takes one after the other, so that it reads the maps once for all. */
const BLOCKS = 4;
/** The smallest normal f32: a maximum below it counts as this, so that nothing is divided by zero. */
const SMALLEST = 2 ** -126;

export const adamw8bit: Kernel = {
  name: "adamw8bit",
  bindings: {
    step: "read",
    totals: "read",
    maps: "read",
    parameter: "update",
    gradient: "update",
    codes: "update",
    absmax: "update",
  },
  variants: [
    {
      name: "block",
      file: "adamw8bit.wgsl",
      accepts: () => true,
      defines: () => ({ BLOCKS }),
      grid: (call) => grid1d(Math.ceil(size(call, "blocks") / BLOCKS)),
    },
  ],
  twin(memory, call) {
    const [step, totals, maps, p, g] = [
      bound(memory, "step"),
      bound(memory, "totals"),
      bound(memory, "maps"),
      bound(memory, "parameter"),
      bound(memory, "gradient"),
    ];
    const [codes, absmax] = [bound(memory, "codes"), bound(memory, "absmax")];
    const [signed, unsigned] = [maps.subarray(0, 256), maps.subarray(256)];
    const blocks = size(call, "blocks");
    const count = blocks * MOMENT_BLOCK;
    for (let block = 0; block < blocks && totals[2]! > 0; block++) {
      const start = block * MOMENT_BLOCK;
      const m = new Float64Array(MOMENT_BLOCK);
      const v = new Float64Array(MOMENT_BLOCK);
      for (let k = 0; k < MOMENT_BLOCK; k++) {
        const i = start + k;
        const gradient = g[i]! * totals[2]!;
        m[k] = step[7]! * absmax[block]! * signed[codes[i]!]! + step[9]! * gradient;
        v[k] = step[8]! * absmax[blocks + block]! * unsigned[codes[count + i]!]! + step[10]! * gradient ** 2;
        p[i] =
          p[i]! * (1 - step[1]! * step[4]!) -
          ((step[1]! / step[2]!) * m[k]!) / (Math.sqrt(v[k]! / step[3]!) + step[5]!);
      }
      absmax[block] = m.reduce((top, x) => Math.max(top, Math.abs(x)), 0);
      absmax[blocks + block] = v.reduce((top, x) => Math.max(top, x), 0);
      for (let k = 0; k < MOMENT_BLOCK; k++) {
        const code = nearestEntry(signed, m[k]! / Math.max(absmax[block]!, SMALLEST));
        // A first moment keeps its sign: a small negative one does not become 0, which is code 127.
        codes[start + k] = m[k]! < 0 ? Math.min(code, 126) : code;
        codes[count + start + k] = nearestEntry(
          unsigned,
          v[k]! / Math.max(absmax[blocks + block]!, SMALLEST),
        );
      }
    }
    g.fill(0, 0, count);
  },
  cost: (call) => ({
    flops: 60 * size(call, "blocks") * MOMENT_BLOCK,
    bytes: size(call, "blocks") * (20 * MOMENT_BLOCK + 16),
  }),
};

/**
 * One step over the first `count` parameters of an arena, whole blocks, all of which decay; their gradients are zero afterwards.
 * @param t.maps f32 [2, 256] the signed map for first moments, the unsigned one for second moments
 * @param t.codes u8 [2, count] first moments, second moments; zero at the start
 * @param t.absmax f32 [2, count / 256]; zero at the start
 */
export function callAdamw8bit(
  label: string,
  t: {
    readonly parameter: Tensor;
    readonly gradient: Tensor;
    readonly codes: Tensor;
    readonly absmax: Tensor;
    readonly maps: Tensor;
    readonly step: Tensor;
    readonly totals: Tensor;
  },
  s: { readonly count: number },
): Call {
  if (s.count % MOMENT_BLOCK !== 0) throw new Error(`${label}: ${s.count} values are no whole blocks`);
  return {
    kernel: adamw8bit,
    label,
    tensors: { ...t },
    sizes: { blocks: s.count / MOMENT_BLOCK },
    options: {},
  };
}
