// The measured tables as Markdown.
import { geometricMean } from "../shared/numbers.mjs";
import { sectionOf } from "../shared/section.mjs";
import { digits, measuredWith, reached, table, versionsText } from "../shared/table.mjs";
import { nameOf, PEER_PRODUCTS } from "./products.mjs";
import { LARGEST_PEAK, LEAST_RATE, SIDES } from "./training.mjs";

const megabytes = (bytes) => (bytes / 1e6).toFixed(0);

/** By peer: our rate over its rate at each shape that it could run, and their geometric mean. */
export function productRatios({ rows }) {
  const rate = (shape, name) => rows.find((row) => row.shape === shape && row.name === name)?.gflops;
  const shapes = [...new Set(rows.map((row) => row.shape))];
  return PEER_PRODUCTS.flatMap((peer) => {
    const name = nameOf(peer);
    const ratios = shapes.map((shape) => rate(shape, `qdora ${peer.against}`) / rate(shape, name));
    const measured = ratios.filter((ratio) => !Number.isNaN(ratio));
    if (measured.length === 0) return [];
    const mean = geometricMean(measured);
    return [{ name, against: `qdora ${peer.against}`, shapes, ratios, mean, least: peer.least }];
  });
}

/** GFLOP/s of all, then our rate over each peer's. */
export function productsText(result, machine) {
  const ratios = productRatios(result);
  const shapes = [...new Set(result.rows.map((row) => row.shape))];
  const names = [...new Set(result.rows.map((row) => row.name))];
  const cell = (name, shape) => result.rows.find((row) => row.name === name && row.shape === shape);
  const rates = names.map((name) => {
    const found = shapes.map((shape) => cell(name, shape));
    const mean = geometricMean(found.flatMap((row) => row?.gflops ?? []));
    return [name, ...found.map((row) => (row ? digits(row.gflops) : "-")), digits(mean)];
  });
  const compared = ratios.map((r) => [
    `${r.against} / ${r.name}`,
    ...r.ratios.map((ratio) => (Number.isNaN(ratio) ? "-" : `${digits(ratio)}x`)),
    `${digits(r.mean)}x`,
    `>= ${r.least}x`,
    reached(r.mean >= r.least),
  ]);
  const head = shapes.map((shape) => shape);
  return [
    `## ${sectionOf("Products", result.bits)}`,
    "",
    ...measuredWith({ machine, ...result }, "npm run bench:peers -- --part products --write"),
    ...result.peers.map(({ peer, versions, adapter, reason }) =>
      reason === undefined
        ? `- ${peer}: ${versionsText(versions)}; ${adapter}`
        : `- ${peer}: left out, ${reason}`,
    ),
    `- ${result.tokens} tokens, in->out, NF4 in blocks of 64 with f32 absmax; medians of ${result.rounds} rounds in which all take turns, GFLOP/s`,
    "",
    table(["product", ...head, "geometric mean"], rates),
    "",
    table(["our rate over theirs", ...head, "geometric mean", "wanted", "reached"], compared),
  ].join("\n");
}

/** Of each of our runs: rate and peak over those of PEFT's run; undefined where there is none. */
export function trainingRatios({ rows }) {
  return SIDES.flatMap(({ name, against }) => {
    const own = rows.find((row) => row.name === name);
    const peft = rows.find((row) => row.name === against);
    if (!own || !peft) return [];
    const rate = own.tokensPerSecond / peft.tokensPerSecond;
    return [{ name, against, rate, peak: own.aboveRuntimeBytes / peft.aboveRuntimeBytes }];
  });
}

export function trainingText(result, machine) {
  const ratios = trainingRatios(result);
  const versions = Object.assign({}, ...result.rows.map((row) => row.versions));
  const adapter = result.rows.find((row) => row.adapter !== undefined)?.adapter;
  const rows = result.rows.map((row) => {
    const ratio = ratios.find(({ name }) => name === row.name);
    return [
      row.name,
      row.ms.toFixed(0),
      digits(row.tokensPerSecond),
      megabytes(row.aboveRuntimeBytes),
      megabytes(row.runtimeBytes),
      row.loss.toFixed(4),
      ratio ? `${digits(ratio.rate)}x` : "",
      ratio ? `${digits(ratio.peak)}x` : "",
    ];
  });
  return [
    "## QDoRA training against PEFT on the CPU",
    "",
    ...measuredWith(
      { machine, adapter, versions },
      "QDORA_PEFT_PYTHON=PYTHON npm run bench:peers -- --part training --write",
    ),
    `- SmolLM2-135M, 1 x ${result.tokens} tokens, rank ${result.rank} on all linear layers, NF4 with double quantisation, products in f32, AdamW; ${result.threads} threads`,
    `- medians of ${result.rounds} rounds in which all take turns, after one step each; the names end with the gradient checkpointing`,
    "- peak: what the process held in RAM at most, loading included, above what it held with imports done and the GPU opened. A software",
    "  GPU's memory and compiled shaders are in it.",
    `- wanted: rate >= ${LEAST_RATE}x, peak <= ${LARGEST_PEAK}x of PEFT with the same checkpointing (\`selective\` is compared with \`none\`)`,
    "",
    table(
      [
        "run",
        "ms / step",
        "tok/s",
        "peak, MB",
        "idle runtime, MB",
        "first loss",
        "rate / PEFT's",
        "peak / PEFT's",
      ],
      rows,
    ),
  ].join("\n");
}
