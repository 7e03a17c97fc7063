/** DoRA's row norms (arXiv 2402.09353) for all modules of a layer: the small matrices A At, and g = m / ||W + s B A||. */
import type { AdapterTraits } from "../gpu/traits.js";
import {
  bound,
  grid1d,
  option,
  size,
  type Call,
  type Kernel,
  type NumberArray,
  type Variant,
} from "../program/kernel.js";
import { elementCount, type Tensor } from "../program/tensor.js";
import { isTimed, SPLIT_LANES } from "./split.js";

const LANES = 64;
const GRAM_LANES = 16;
/** A lane holds a row of B up to this rank. */
const MOST_UNROLLED_RANK = 16;
/** More have no room in 256 bytes of sizes. */
export const MOST_MODULES = 7;

const modules = (call: Call): readonly number[] => Array.from({ length: option(call, "COUNT") }, (_, m) => m);
const ranks = (call: Call): readonly number[] => modules(call).map((m) => size(call, `rank${m}`));
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** The rank that all modules share, if loops over it are unrolled; else 0. */
function unrolledRank(call: Call): number {
  const [rank = 0, ...others] = ranks(call);
  return rank <= MOST_UNROLLED_RANK && others.every((other) => other === rank) ? rank : 0;
}

/** @param cols more of them use what a lane reads more often, fewer keep more cores busy */
const gramVariant = (name: string, cols: number, accepts: (traits: AdapterTraits) => boolean): Variant => ({
  name,
  file: "adapter_gram.wgsl",
  accepts: (_, traits) => accepts(traits),
  defines: (call) => ({ ...call.options, LANES: GRAM_LANES, COLS: cols }),
  grid: (call) => [
    sum(ranks(call).map((rank) => Math.ceil(rank / cols))),
    Math.ceil(Math.max(...ranks(call)) / GRAM_LANES),
    1,
  ],
});

/** 2 x 4 results per workgroup. */
const splitGram: Variant = {
  name: "split",
  file: "adapter_gram_split.wgsl",
  accepts: (call) => option(call, "QUADS") === 1,
  isTimed,
  defines: (call) => ({ ...call.options, LANES: SPLIT_LANES }),
  grid: (call) => grid1d(sum(ranks(call).map((rank) => Math.ceil(rank / 2) * Math.ceil(rank / 4)))),
};

export const adapterGram: Kernel = {
  name: "adapter_gram",
  bindings: { a: "read", gram: "write" },
  variants: [
    gramVariant("software", 16, (traits) => traits.isSoftware),
    splitGram,
    gramVariant("row", 4, () => true),
  ],
  twin(memory, call) {
    const [a, gram] = [bound(memory, "a"), bound(memory, "gram")];
    for (const m of modules(call)) {
      const [rank, width, start] = [size(call, `rank${m}`), size(call, `in${m}`), size(call, `a${m}`)];
      for (let r = 0; r < rank; r++) {
        for (let i = 0; i < rank; i++) {
          let value = 0;
          for (let k = 0; k < width; k++) value += a[start + r * width + k]! * a[start + i * width + k]!;
          gram[m * size(call, "stride") + r * rank + i] = value;
        }
      }
    }
  },
  cost: (call) => {
    const terms = modules(call).map((m) => size(call, `rank${m}`) ** 2 * size(call, `in${m}`));
    const factors = modules(call).map((m) => size(call, `rank${m}`) * size(call, `in${m}`));
    return { flops: 2 * sum(terms), bytes: 4 * (sum(factors) + sum(ranks(call).map((r) => r * r))) };
  },
};

/** Where a factor A lies in the tensor that has all of them. */
export interface FactorPlace {
  readonly rank: number;
  readonly in: number;
  /** Element at which it begins. */
  readonly at: number;
}

/**
 * gram[m] = A At of each module.
 * @param t.a f32 all factors
 * @param t.gram f32, overwritten: [rank, rank] of a module every `stride` elements
 */
export function callAdapterGram(
  label: string,
  t: { readonly a: Tensor; readonly gram: Tensor },
  factors: readonly FactorPlace[],
  stride: number,
): Call {
  const fits =
    factors.every(
      ({ rank, in: width, at }) => at + rank * width <= elementCount(t.a) && rank ** 2 <= stride,
    ) &&
    factors.length * stride <= elementCount(t.gram) &&
    factors.length <= MOST_MODULES;
  if (!fits) throw new Error(`${label}: ${factors.length} factors do not fit ${t.a.name}`);
  return {
    kernel: adapterGram,
    label,
    tensors: { ...t },
    sizes: {
      ...Object.fromEntries(
        factors.flatMap((f, m) => [
          [`rank${m}`, f.rank],
          [`in${m}`, f.in],
          [`a${m}`, f.at],
        ]),
      ),
      stride,
    },
    options: {
      COUNT: factors.length,
      QUADS: factors.every(({ in: width, at }) => width % 4 === 0 && at % 4 === 0),
    },
  };
}

export const doraRowNorm: Kernel = {
  name: "dora_row_norm",
  bindings: { product: "read", gram: "read", parameters: "read", squares: "read", scales: "update" },
  variants: [
    {
      name: "row",
      file: "dora_row_norm.wgsl",
      accepts: () => true,
      defines: (call) => ({ ...call.options, LANES, RANK: unrolledRank(call) }),
      grid: (call) => grid1d(sum(modules(call).map((m) => Math.ceil(size(call, `out${m}`) / LANES)))),
    },
  ],
  twin(memory, call) {
    const part = (name: string, field: string, m: number): NumberArray =>
      bound(memory, name).subarray(size(call, `${field}${m}`));
    for (const m of modules(call)) {
      const [out, rank, s] = [size(call, `out${m}`), size(call, `rank${m}`), size(call, `scaling${m}`)];
      const gram = bound(memory, "gram").subarray(m * size(call, "stride"));
      const [product, b] = [part("product", "product", m), part("parameters", "b", m)];
      const [squares, magnitude] = [part("squares", "square", m), part("parameters", "m", m)];
      const scales = part("scales", "scale", m);
      const width = 1 + ((option(call, "BIAS") >> m) & 1);
      for (let j = 0; j < out; j++) {
        let norm2 = squares[j]!;
        for (let r = 0; r < rank; r++) {
          norm2 += 2 * s * b[j * rank + r]! * product[r * out + j]!;
          for (let i = 0; i < rank; i++)
            norm2 += s * s * b[j * rank + r]! * gram[r * rank + i]! * b[j * rank + i]!;
        }
        scales[width * j] = norm2 > 0 ? magnitude[j]! / Math.sqrt(norm2) : 0;
      }
    }
  },
  cost: (call) => {
    const work = modules(call).map((m) => [size(call, `out${m}`), size(call, `rank${m}`)] as const);
    return {
      flops: sum(work.map(([out, rank]) => 2 * out * rank * (rank + 2))),
      bytes: sum(work.map(([out, rank]) => 4 * out * (2 * rank + 4))),
    };
  },
};

/** A module's parts in the tensors that all modules share: the element at which each begins. */
export interface RowNormPlace {
  readonly out: number;
  readonly rank: number;
  readonly scaling: number;
  readonly hasBias: boolean;
  readonly b: number;
  readonly m: number;
  readonly product: number;
  readonly square: number;
  readonly scale: number;
}

/**
 * scales[j] = m_j / ||W_j + s B_j A||, by the factored formula: no matrix of W's size is made.
 * @param t.product f32 [rank, out] A W^T of each module
 * @param t.gram f32 of `callAdapterGram`, every `stride` elements
 * @param t.parameters f32 B [out, rank] and m [out] of each module
 * @param t.squares f32 [out] ||W_j||^2 of each module
 * @param t.scales f32 [out] g of each module, or [out, 2] g and a bias, which stays
 */
export function callDoraRowNorm(
  label: string,
  t: Readonly<Record<"product" | "gram" | "parameters" | "squares" | "scales", Tensor>>,
  places: readonly RowNormPlace[],
  stride: number,
): Call {
  if (places.length === 0 || places.length > MOST_MODULES)
    throw new Error(`${label}: ${places.length} modules`);
  return {
    kernel: doraRowNorm,
    label,
    tensors: { ...t },
    sizes: {
      ...Object.fromEntries(
        places.flatMap(({ hasBias: _, ...numbers }, m) =>
          Object.entries(numbers).map(([name, value]) => [`${name}${m}`, value]),
        ),
      ),
      stride,
    },
    options: {
      COUNT: places.length,
      BIAS: places.reduce((bits, { hasBias }, m) => bits | (hasBias ? 1 << m : 0), 0),
    },
  };
}
