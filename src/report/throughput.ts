/** Rows of `qdora bench throughput`, for people and for machines. */
import type { ProductPeak } from "../kernels/product_peak.js";
import type { Throughput } from "../train/throughput_bench.js";
import { formatBytes } from "../formats/bytes.js";
import { formatRate } from "./format.js";

export interface ThroughputRow extends Throughput {
  readonly model: string;
  readonly length: number;
  readonly batch: number;
  readonly quant: "nf4" | "none";
  readonly steps: number;
}

/** Tokens per second on a machine whose best product reached 1 TFLOP/s: compares across machines. */
const perTeraflop = (row: ThroughputRow, peak: ProductPeak): number =>
  row.tokensPerSecond / (peak.flopsPerSecond / 1e12);

/** One row with everything that a comparison needs; the calls of the profile stay out. */
export function throughputJson(row: ThroughputRow, peak: ProductPeak, adapter: string): object {
  const { profile: _, timeOverLora, ...rest } = row;
  return {
    ...rest,
    ...(timeOverLora !== undefined && { timeOverLora }),
    tokensPerSecondPerTeraflop: perTeraflop(row, peak),
    productPeakFlops: peak.flopsPerSecond,
    productPeak: peak.name,
    adapter,
  };
}

/** A Markdown table with what the rates are compared with. */
export function throughputTable(rows: readonly ThroughputRow[], peak: ProductPeak, adapter: string): string {
  const { N, K, M } = peak.shape;
  const steps = rows[0]?.steps ?? 0;
  const lines = rows.map((r) =>
    [
      r.model,
      r.quant,
      r.method,
      `${r.batch} x ${r.length}`,
      (r.stepSeconds * 1000).toFixed(0),
      formatRate(r.tokensPerSecond),
      formatRate(perTeraflop(r, peak)),
      `${(100 * r.productShare).toFixed(0)} %`,
      r.stepEfficiency.toFixed(2),
      `${(100 * r.dispatchShare).toFixed(1)} %`,
      r.hostMs.toFixed(1),
      r.timeOverLora === undefined ? "" : r.timeOverLora.toFixed(3),
      r.loss.toFixed(3),
      r.gradNorm.toPrecision(3),
      formatBytes(r.planBytes),
    ].join(" | "),
  );
  const isApart = rows.some((r) => r.timeOverLora !== undefined && !r.interleaved);
  return [
    "| model | quant | method | tokens | ms / step | tok/s | tok/s per TFLOP/s | in products | efficiency | dispatches | host ms | time / LoRA | loss | grad norm | GPU |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ...lines.map((line) => `| ${line} |`),
    "",
    `${adapter}; best product ${(peak.flopsPerSecond / 1e9).toFixed(0)} GFLOP/s (${peak.name}, ${N} x ${K} x ${M}). Medians of ${steps} steps${rows.some((r) => r.interleaved) ? "; methods took turns" : ""}${isApart ? "; where not all methods fit at once, they ran one after the other" : ""}.`,
  ].join("\n");
}
