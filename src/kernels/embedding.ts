/** Rows of the embedding table by token id. The table may lie in several parts where one binding cannot hold it. */
import { bound, option, size, type Access, type Call, type Kernel } from "../program/kernel.js";
import type { Tensor } from "../program/tensor.js";
import { elementVariants } from "./elements.js";
import type { DenseWeight } from "./weight.js";

function gather(name: string, access: Access): Kernel {
  return {
    name,
    bindings: { values: "read", tokens: "read", x: access },
    variants: elementVariants("embedding_gather.wgsl", (call) => size(call, "N") * size(call, "D")),
    twin(memory, call) {
      const [values, tokens, x] = [bound(memory, "values"), bound(memory, "tokens"), bound(memory, "x")];
      const [D, firstRow, rows] = [size(call, "D"), size(call, "firstRow"), size(call, "rows")];
      for (let t = 0; t < size(call, "N"); t++) {
        const row = tokens[t]! - firstRow;
        if (row >= 0 && row < rows) for (let i = 0; i < D; i++) x[t * D + i] = values[row * D + i]!;
        else if (!option(call, "ADD")) x.fill(0, t * D, (t + 1) * D);
      }
    },
    cost: (call) => ({ flops: 0, bytes: 8 * size(call, "N") * size(call, "D") }),
  };
}

/** For the first part: rows of other parts become zero. */
export const embeddingGather = gather("embedding_gather", "write");
/** For later parts: rows of other parts stay. */
export const embeddingGatherAdd = gather("embedding_gather_add", "update");

/**
 * @param t.table rows `firstRow` and following of the table, [rows, D]
 * @param t.tokens u32 [N]
 * @param t.x f32 [N, D]
 * @param s.add leave rows of tokens outside this part as they are (else they become zero)
 */
export function callEmbeddingGather(
  label: string,
  t: { readonly table: DenseWeight; readonly tokens: Tensor; readonly x: Tensor },
  s: { readonly N: number; readonly D: number; readonly firstRow: number; readonly add: boolean },
): Call {
  const { N, D, firstRow, add } = s;
  const { table, tokens, x } = t;
  return {
    kernel: add ? embeddingGatherAdd : embeddingGather,
    label,
    tensors: { values: table.values, tokens, x },
    sizes: { N, D, firstRow, rows: table.out },
    options: { ADD: add, BF16: table.format === "bf16", F16: table.format === "f16" },
  };
}
