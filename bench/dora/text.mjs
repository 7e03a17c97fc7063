// The steps of DoRA and LoRA as Markdown.
import { sectionOf } from "../shared/section.mjs";
import { measuredWith, reached, table } from "../shared/table.mjs";

/** The most that a step of DoRA may take of LoRA's: one optimizer step's row norms weigh less where it has more tokens. */
const most = ({ checkpointing, tokens }) => (checkpointing === "full" ? 1.1 : tokens < 2048 ? 1.06 : 1.03);
const LEAST_EFFICIENCY = 0.5;
const MOST_IN_DISPATCHES = 0.05;

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const megabytes = (bytes) => (bytes / 1e6).toFixed(0);

/** @param results a case each: `lora` and `dora` of the middle pair as `measureThroughput` gives them, and the `ratios` of all pairs, sorted */
export function doraText(results, { model, peak, rank, quant, ...facts }) {
  const rows = results.map((r) => [
    r.checkpointing,
    `${r.rows} x ${r.length}`,
    `${r.ratios.length} x ${r.rounds}`,
    (1000 * r.lora.stepSeconds).toFixed(0),
    (1000 * r.dora.stepSeconds).toFixed(0),
    r.dora.timeOverLora.toFixed(3),
    r.ratios.length > 1 ? `${r.ratios[0].toFixed(3)}-${r.ratios.at(-1).toFixed(3)}` : "-",
    `<= ${most(r).toFixed(2)}`,
    reached(r.dora.timeOverLora <= most(r)),
    r.dora.tokensPerSecond.toFixed(1),
    r.dora.stepEfficiency.toFixed(2),
    percent(r.dora.dispatchShare),
    r.dora.hostMs.toFixed(1),
    megabytes(r.lora.planBytes),
    megabytes(r.dora.planBytes),
    r.dora.gradNorm.toPrecision(3),
  ]);
  return [
    sectionOf("## Optimizer steps, DoRA against LoRA", facts.bits),
    "",
    ...measuredWith(facts, "npm run bench:dora -- --write"),
    `- ${model}, one micro-batch of random tokens, rank ${rank} on all linear layers, ${quant}, AdamW; best product ${(peak.flopsPerSecond / 1e9).toFixed(0)} GFLOP/s (${peak.name})`,
    "- ms and rates are medians; DoRA / LoRA is the median of the rounds' ratios, both taking turns. Sessions are opened anew for each pair;",
    "  a line is the pair whose ratio is in the middle",
    `- efficiency: time that the step's products take alone over the time of the step (wanted: >= ${LEAST_EFFICIENCY}); dispatches: as many`,
    `  empty ones over the time of the step (wanted: <= ${percent(MOST_IN_DISPATCHES)}); both of DoRA's step`,
    "",
    table(
      [
        "checkpointing",
        "tokens",
        "pairs x rounds",
        "LoRA, ms",
        "DoRA, ms",
        "DoRA / LoRA",
        "of all pairs",
        "wanted",
        "reached",
        "DoRA, tok/s",
        "efficiency",
        "dispatches",
        "host ms",
        "GPU, MB: LoRA",
        "DoRA",
        "grad norm",
      ],
      rows,
    ),
  ].join("\n");
}
