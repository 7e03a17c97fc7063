/** The two programs of generation: a piece of the prompt, and one token, over a cache of keys and values. */
import { lowrankCalls, productCall } from "../adapter/linear.js";
import { callAttentionForward } from "../kernels/attention.js";
import { callCopyRows } from "../kernels/copy_rows.js";
import { callRmsNormForward } from "../kernels/rms_norm.js";
import { callRope } from "../kernels/rope.js";
import { callSwigluForward } from "../kernels/swiglu.js";
import type { Call, Program } from "../program/kernel.js";
import { tensor, type Tensor } from "../program/tensor.js";
import { layerRowNorms } from "./layer.js";
import type { Role } from "./modules.js";
import { embeddingCalls, logitsCalls } from "./programs.js";
import type { LayerTensors, ModelTensors } from "./tensors.js";

export interface GenerationTensors {
  /** Longest prompt and answer together. */
  readonly context: number;
  /** u32 [pieces of the prompt] */
  readonly tokens: Tensor;
  readonly positions: Tensor;
  /** u32 [context, 2]: all (0, context), one sequence. */
  readonly spans: Tensor;
  /** f32 [1, V] of the last token. */
  readonly logits: Tensor;
}

export function generationTensors(model: ModelTensors, context: number, piece: number): GenerationTensors {
  return {
    context,
    tokens: tensor("tokens", [piece], "u32", "staging"),
    positions: tensor("positions", [piece], "u32", "staging"),
    spans: tensor("spans", [context, 2], "u32", "staging"),
    logits: tensor("last logits", [1, model.arch.vocab], "f32", "cache"),
  };
}

/**
 * `N` tokens that follow `row` tokens in the cache; afterwards `logits` are those of the last one.
 * @param s.capacity the most tokens the program is planned for (1: the matrix-vector variants)
 */
export function generationProgram(
  name: string,
  model: ModelTensors,
  g: GenerationTensors,
  s: { readonly N: number; readonly capacity: number; readonly row: number },
): Program {
  const { hidden: D, normEps: eps } = model.arch;
  const { N } = s;
  const work = (what: string, width: number): Tensor => tensor(`${name}.${what}`, [s.capacity, width]);
  let x = work("x.0", D);
  const calls: Call[] = [...embeddingCalls(model, g.tokens, x, N)];
  for (const w of model.layers) {
    const next = work(`x.${w.layer + 1}`, D);
    calls.push(...layerRowNorms(w), ...layerCalls(name, model, w, g, s, x, next));
    x = next;
  }
  const hn = work("final norm", D);
  calls.push(callRmsNormForward("final norm", { x, weight: model.finalNorm, y: hn }, { rows: N, D, eps }));
  calls.push(...logitsCalls(model, hn, g.logits, 1, N - 1));
  return { name, calls };
}

function layerCalls(
  name: string,
  model: ModelTensors,
  w: LayerTensors,
  g: GenerationTensors,
  s: { readonly N: number; readonly capacity: number; readonly row: number },
  x: Tensor,
  next: Tensor,
): readonly Call[] {
  const { arch, ropeTable: table } = model;
  const { N, row } = s;
  const eps = arch.normEps;
  const [D, F, Q, KV] = [
    arch.hidden,
    arch.feedForward,
    arch.heads * arch.headDim,
    arch.kvHeads * arch.headDim,
  ];
  const label = `layers.${w.layer}`;
  const work = (what: string, width: number): Tensor =>
    tensor(`${name}.${label}.${what}`, [s.capacity, width]);
  const cache = (what: string): Tensor => tensor(`${label}.${what} cache`, [g.context, KV], "f32", "cache");
  const calls: Call[] = [];
  const linear = (
    role: Role,
    input: Tensor,
    y: Tensor,
    more: { readonly residual?: Tensor; readonly yRow?: number } = {},
  ): void => {
    const module = w.linears[role];
    const p = module.adapter && work(`${role}.p`, module.adapter.rank);
    calls.push(...lowrankCalls(module, input, p, N));
    const { residual, yRow } = more;
    calls.push(
      productCall(
        module,
        { x: input, p, y, ...(residual && { residual }) },
        { N, ...(yRow !== undefined && { yRow }) },
      ),
    );
  };
  const h = work("h", D);
  calls.push(
    callRmsNormForward(`${label} input norm`, { x, weight: w.inputNorm, y: h }, { rows: N, D, eps }),
  );
  let [q, k] = [work("q", Q), work("k", KV)];
  const [kCache, vCache] = [cache("k"), cache("v")];
  linear("q_proj", h, q);
  linear("k_proj", h, k);
  linear("v_proj", h, vCache, { yRow: row });
  if (w.qNorm && w.kNorm) {
    const [q2, k2] = [work("q normed", Q), work("k normed", KV)];
    calls.push(
      callRmsNormForward(
        `${label} q norm`,
        { x: q, weight: w.qNorm, y: q2 },
        { rows: N * arch.heads, D: arch.headDim, eps },
      ),
    );
    calls.push(
      callRmsNormForward(
        `${label} k norm`,
        { x: k, weight: w.kNorm, y: k2 },
        { rows: N * arch.kvHeads, D: arch.headDim, eps },
      ),
    );
    [q, k] = [q2, k2];
  }
  const { heads, kvHeads, headDim } = arch;
  calls.push(
    callRope(
      `${label} rope`,
      { q, k, table, positions: g.positions },
      { N, heads, kvHeads, headDim, direction: 1 },
    ),
    callCopyRows(`${label} k cache`, { x: k, y: kCache }, { N, width: KV, row }),
  );
  const [o, lse] = [work("o", Q), work("lse", arch.heads)];
  calls.push(
    callAttentionForward(
      `${label} attention`,
      { q, k: kCache, v: vCache, spans: g.spans, o, lse },
      {
        N,
        queryRow: row,
        heads: arch.heads,
        kvHeads: arch.kvHeads,
        headDim: arch.headDim,
        scale: 1 / Math.sqrt(arch.headDim),
        window: w.window,
      },
    ),
  );
  const mid = work("mid", D);
  linear("o_proj", o, mid, { residual: x });
  const h2 = work("h2", D);
  calls.push(
    callRmsNormForward(`${label} post norm`, { x: mid, weight: w.postNorm, y: h2 }, { rows: N, D, eps }),
  );
  const [gate, up, act] = [work("gate", F), work("up", F), work("act", F)];
  linear("gate_proj", h2, gate);
  linear("up_proj", h2, up);
  calls.push(callSwigluForward(`${label} swiglu`, { gate, up, y: act }, { count: N * F }));
  linear("down_proj", act, next, { residual: mid });
  return calls;
}
