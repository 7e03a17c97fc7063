/** The rank-r products of LoRA: x down to rank r, and the gradients of the two factors. */
import {
  bound,
  option,
  size,
  type Call,
  type Cost,
  type Defines,
  type Kernel,
  type Variant,
} from "../program/kernel.js";
import { elementCount, type Tensor } from "../program/tensor.js";
import { rowScaleOptions, rowScales } from "./row_scale.js";
import { ENOUGH_WORKGROUPS, isTimed, sharedTokens, SPLIT_LANES } from "./split.js";

/**
 * Several modules that share x: their factors A are one matrix [members * rank, K], and what is narrow lies in one block
 * for each, so that a member's rows are a tensor of their own.
 */
export interface Members {
  /** Rank of each. */
  readonly rank: number;
  /** f32 elements from a member's block to the next one's. */
  readonly stride: number;
}

/** Where a narrow tensor has rank r of token t: for one module [N, rank]. */
const narrowAt = (call: Call, t: number, r: number): number => {
  const member = size(call, "member");
  return Math.floor(r / member) * size(call, "stride") + t * member + (r % member);
};

/** How a factor lies: A [rank, K] has "rows", B [K, rank] has "columns". */
export type FactorLayout = "rows" | "columns";

const TILE = { TOKENS: 16, DEPTH: 32 };

/** Ranks per workgroup: whole quads, at most 16. */
const rankTile = (call: Call): number => Math.min(16, Math.ceil(size(call, "rank") / 4) * 4);

const tile: Variant = {
  name: "tile",
  file: "lowrank_down.wgsl",
  accepts: () => true,
  defines: (call): Defines => ({ ...call.options, ...TILE, RANKS: rankTile(call) }),
  grid: (call, d) => [
    Math.ceil(size(call, "N") / TILE.TOKENS),
    Math.ceil(size(call, "rank") / Number(d["RANKS"])),
    1,
  ],
};

const SOFTWARE_LANES = 32;
/** Tokens of a lane share what is read of w, where enough workgroups are left. */
const softwareTokens = (call: Call): number => (size(call, "N") > 2 * SOFTWARE_LANES ? 2 : 1);

const software: Variant = {
  name: "software",
  file: "lowrank_down_software.wgsl",
  accepts: (call, traits) => traits.isSoftware && size(call, "K") % 4 === 0,
  defines: (call): Defines => {
    const isWide = option(call, "COLUMNS") === 0 || size(call, "rank") % 4 === 0;
    return {
      ...call.options,
      LANES: SOFTWARE_LANES,
      TOKENS: softwareTokens(call),
      RANKS: isWide ? rankTile(call) : Math.min(16, size(call, "rank")),
      W_VEC4: isWide,
    };
  },
  grid: (call, d) => [
    Math.ceil(size(call, "N") / (SOFTWARE_LANES * Number(d["TOKENS"]))),
    Math.ceil(size(call, "rank") / Number(d["RANKS"])),
    1,
  ],
};

/**
 * Tokens and ranks: large tiles load less for each product, small ones make more workgroups. With more than four tokens a lane's sums
 * and what it multiplies do not fit Intel's registers.
 */
const LARGER_TILES = [
  [4, 16],
  [4, 8],
  [2, 8],
] as const;
const SMALLEST_TILE = [1, 4] as const;

const tiles = (call: Call, tokens: number, ranks: number): readonly [number, number, number] => [
  Math.ceil(size(call, "N") / tokens),
  Math.ceil(size(call, "rank") / ranks),
  1,
];

/** The largest tile of which there are enough. */
function downTile(call: Call): Defines {
  const rank = size(call, "rank");
  const widest = rank <= 4 ? 4 : rank <= 8 ? 8 : 16;
  const [TOKENS, RANKS] =
    LARGER_TILES.map(([tokens, ranks]) => [tokens, Math.min(ranks, widest)] as const).find(
      ([tokens, ranks]) => {
        const [x, y] = tiles(call, tokens, ranks);
        return x * y >= ENOUGH_WORKGROUPS;
      },
    ) ?? SMALLEST_TILE;
  return { TOKENS, RANKS };
}

/** p = alpha x w with the sum over K split. */
const split: Variant = {
  name: "split",
  file: "lowrank_down_split.wgsl",
  accepts: (call) =>
    size(call, "K") % 4 === 0 && (option(call, "COLUMNS") === 0 || size(call, "rank") % 4 === 0),
  isTimed,
  defines: (call): Defines => ({ ...call.options, ...downTile(call), LANES: SPLIT_LANES }),
  grid: (call, d) => tiles(call, Number(d["TOKENS"]), Number(d["RANKS"])),
};

function cost(call: Call): Cost {
  const [N, K, rank] = [size(call, "N"), size(call, "K"), size(call, "rank")];
  return { flops: 2 * N * K * rank, bytes: 4 * (N * K + N * rank + K * rank) };
}

export const lowrankDown: Kernel = {
  name: "lowrank_down",
  bindings: { x: "read", w: "read", scale_bias: "read", p: "write" },
  variants: [software, split, tile],
  twin(memory, call) {
    const [x, w, p] = [bound(memory, "x"), bound(memory, "w"), bound(memory, "p")];
    const [N, K, rank] = [size(call, "N"), size(call, "K"), size(call, "rank")];
    const [wr, wk] = option(call, "COLUMNS") ? [1, rank] : [K, 1];
    const g = rowScales(memory, call);
    for (let t = 0; t < N; t++) {
      for (let r = 0; r < rank; r++) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += x[t * K + k]! * g(k) * w[r * wr + k * wk]!;
        p[narrowAt(call, t, r)] = size(call, "alpha") * sum;
      }
    }
  },
  cost,
};

/** A CPU has few cores to keep busy and pays for each reading of narrow and of sums: columns and tokens share them. */
const GPU_GRADIENT = { LANES: 32, COLS: 2, TOKENS: 1 };
const SOFTWARE_GRADIENT = { LANES: 16, COLS: 4, TOKENS: 4 };

const gradientRanks = (call: Call): number => Math.min(16, size(call, "member"));
const gradientTiles = (call: Call): number =>
  (size(call, "rank") / size(call, "member")) * Math.ceil(size(call, "member") / gradientRanks(call));

/** @param shape LANES times COLS, which may be left out, are the columns of a workgroup */
const gradientVariant = (
  name: string,
  file: string,
  shape: (call: Call) => Readonly<Record<string, number>>,
  how: Pick<Variant, "accepts" | "isTimed">,
): Variant => ({
  name,
  file,
  ...how,
  defines: (call): Defines => {
    const RANKS = gradientRanks(call);
    const isWhole = RANKS % 4 === 0 && size(call, "member") % RANKS === 0 && size(call, "stride") % 4 === 0;
    return { ...call.options, ...shape(call), RANKS, NARROW_VEC4: isWhole };
  },
  grid: (call, d) => [
    Math.ceil(size(call, "K") / (Number(d["LANES"]) * Number(d["COLS"] ?? 1))),
    gradientTiles(call),
    1,
  ],
});

const GRADIENT_VARIANTS: readonly Variant[] = [
  gradientVariant("software", "lowrank_gradient.wgsl", () => SOFTWARE_GRADIENT, {
    accepts: (_, traits) => traits.isSoftware,
  }),
  gradientVariant(
    "split",
    "lowrank_gradient_split.wgsl",
    (call) => ({ ...sharedTokens(size(call, "K"), gradientTiles(call)) }),
    { accepts: () => true, isTimed },
  ),
  gradientVariant("column", "lowrank_gradient.wgsl", () => GPU_GRADIENT, { accepts: () => true, isTimed }),
];

export const lowrankGradient: Kernel = {
  name: "lowrank_gradient",
  bindings: { wide: "read", narrow: "read", scale_bias: "read", gradient: "update" },
  variants: GRADIENT_VARIANTS,
  twin(memory, call) {
    const [wide, narrow, gradient] = [
      bound(memory, "wide"),
      bound(memory, "narrow"),
      bound(memory, "gradient"),
    ];
    const [N, K, rank] = [size(call, "N"), size(call, "K"), size(call, "rank")];
    const [gr, gk] = option(call, "COLUMNS") ? [1, rank] : [K, 1];
    const g = rowScales(memory, call);
    for (let k = 0; k < K; k++) {
      for (let r = 0; r < rank; r++) {
        let sum = 0;
        for (let t = 0; t < N; t++) sum += wide[t * K + k]! * narrow[narrowAt(call, t, r)]!;
        const at = r * gr + k * gk;
        gradient[at] = gradient[at]! + g(k) * sum;
      }
    }
  },
  cost,
};

/** Sizes of the narrow tensor, and how many elements it has to have. */
function narrowSizes(
  N: number,
  rank: number,
  members: Members | undefined,
): { readonly sizes: { readonly member: number; readonly stride: number }; readonly elements: number } {
  if (!members) return { sizes: { member: rank, stride: 0 }, elements: N * rank };
  const { rank: member, stride } = members;
  if (rank % member !== 0 || stride < N * member)
    throw new Error(`${rank / member} members of rank ${member} do not lie ${stride} apart`);
  return { sizes: { member, stride }, elements: (rank / member - 1) * stride + N * member };
}

function check(label: string, t: Tensor, elements: number): void {
  if (elements > elementCount(t))
    throw new Error(`${label}: ${t.name} [${t.shape.join()}] has no ${elements} elements`);
}

function layoutOptions(label: string, layout: FactorLayout, scaleBias: Tensor | undefined): Defines {
  if (scaleBias && layout === "rows") throw new Error(`${label}: ${scaleBias.name} scales rows of B alone`);
  return { COLUMNS: layout === "columns", ...rowScaleOptions(scaleBias) };
}

/**
 * p = alpha * x w^T (rows) or alpha * x (g w) (columns).
 * @param t.x f32 [N, K]
 * @param t.w f32 [rank, K] (rows) or [K, rank] (columns)
 * @param t.scale_bias f32 [K, 2] g, bias; or [K, 1] g; default g = 1. Columns only.
 * @param t.p f32 [N, rank], or a block [N, members.rank] for each member; overwritten
 */
export function callLowrankDown(
  label: string,
  t: {
    readonly x: Tensor;
    readonly w: Tensor;
    readonly p: Tensor;
    readonly scale_bias?: Tensor | undefined;
  },
  s: {
    readonly N: number;
    readonly K: number;
    readonly rank: number;
    readonly alpha: number;
    readonly layout: FactorLayout;
    readonly members?: Members | undefined;
  },
): Call {
  const { N, K, rank, alpha, layout, members } = s;
  const { scale_bias, ...tensors } = t;
  const narrow = narrowSizes(N, rank, members);
  check(label, t.x, N * K);
  check(label, t.p, narrow.elements);
  check(label, t.w, rank * K);
  return {
    kernel: lowrankDown,
    label,
    tensors: { ...tensors, ...(scale_bias && { scale_bias }) },
    sizes: { N, K, rank, alpha, ...narrow.sizes },
    options: layoutOptions(label, layout, scale_bias),
  };
}

/**
 * gradient += narrow^T wide (rows) or g wide^T narrow (columns).
 * @param t.wide f32 [N, K]: x for A, the output's gradient for B
 * @param t.narrow f32 [N, rank], or a block [N, members.rank] for each member; already times the LoRA scaling
 * @param t.gradient f32 [rank, K] (rows) or [K, rank] (columns), added to
 * @param t.scale_bias f32 [K, 2] g, bias; or [K, 1] g; default g = 1. Columns only.
 */
export function callLowrankGradient(
  label: string,
  t: {
    readonly wide: Tensor;
    readonly narrow: Tensor;
    readonly gradient: Tensor;
    readonly scale_bias?: Tensor | undefined;
  },
  s: {
    readonly N: number;
    readonly K: number;
    readonly rank: number;
    readonly layout: FactorLayout;
    readonly members?: Members | undefined;
  },
): Call {
  const { N, K, rank, layout, members } = s;
  const { scale_bias, ...tensors } = t;
  const narrow = narrowSizes(N, rank, members);
  check(label, t.wide, N * K);
  check(label, t.narrow, narrow.elements);
  check(label, t.gradient, rank * K);
  return {
    kernel: lowrankGradient,
    label,
    tensors: { ...tensors, ...(scale_bias && { scale_bias }) },
    sizes: { N, K, rank, ...narrow.sizes },
    options: layoutOptions(label, layout, scale_bias),
  };
}
