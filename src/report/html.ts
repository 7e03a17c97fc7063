/** report.html: the run on one page, without scripts or anything from outside. */
import { writeFileAtomic } from "../formats/files.js";
import type { PreparedRun } from "../train/prepare.js";
import { formatBytes } from "../formats/bytes.js";
import type { MetricsLine } from "./metrics.js";
import { planTable } from "./plan.js";

const [WIDTH, HEIGHT, MARGIN] = [760, 260, 46];

const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

interface Point {
  readonly x: number;
  readonly y: number;
}

/** One or more curves over the steps, as SVG. */
function chart(
  title: string,
  curves: readonly { readonly name: string; readonly color: string; readonly points: readonly Point[] }[],
): string {
  const points = curves.flatMap((c) => c.points.filter((p) => Number.isFinite(p.y)));
  if (points.length === 0) return "";
  const [x0, x1] = [Math.min(...points.map((p) => p.x)), Math.max(...points.map((p) => p.x), 1)];
  const [y0, y1] = [Math.min(...points.map((p) => p.y)), Math.max(...points.map((p) => p.y))];
  const sx = (x: number): number => MARGIN + ((x - x0) / (x1 - x0 || 1)) * (WIDTH - 2 * MARGIN);
  const sy = (y: number): number =>
    HEIGHT - MARGIN + 16 - ((y - y0) / (y1 - y0 || 1)) * (HEIGHT - 2 * MARGIN);
  const line = (c: (typeof curves)[number]): string =>
    `<polyline fill="none" stroke="${c.color}" stroke-width="1.5" points="${c.points.map((p) => `${sx(p.x).toFixed(1)},${sy(p.y).toFixed(1)}`).join(" ")}"/>` +
    (c.points.length < 60
      ? c.points
          .map(
            (p) => `<circle cx="${sx(p.x).toFixed(1)}" cy="${sy(p.y).toFixed(1)}" r="2" fill="${c.color}"/>`,
          )
          .join("")
      : "");
  return `<h2>${escape(title)}</h2><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escape(title)}">
<text x="4" y="${sy(y1) + 4}">${y1.toPrecision(4)}</text><text x="4" y="${sy(y0) + 4}">${y0.toPrecision(4)}</text>
<text x="${sx(x0)}" y="${HEIGHT - 6}">step ${x0}</text><text x="${sx(x1)}" y="${HEIGHT - 6}" text-anchor="end">${x1}</text>
${curves.map(line).join("\n")}
${curves.map((c, i) => `<text x="${WIDTH - MARGIN}" y="${18 + 16 * i}" text-anchor="end" fill="${c.color}">${escape(c.name)}</text>`).join("")}
</svg>`;
}

/** What happened, as metrics.jsonl has it; with what a resumed run did before. */
export interface RunHistory {
  readonly steps: MetricsLine[];
  readonly evaluations: MetricsLine[];
  readonly rollbacks: MetricsLine[];
}

const pointsOf = (lines: readonly MetricsLine[], key: string): readonly Point[] =>
  lines.flatMap((line) => (line[key] === undefined ? [] : { x: line["step"] ?? 0, y: line[key] }));

/** Writes the report of a finished run. */
export async function writeReport(
  path: string,
  run: PreparedRun,
  { steps, evaluations, rollbacks }: RunHistory,
): Promise<void> {
  const losses = { name: "training loss", color: "#1f6fb4", points: pointsOf(steps, "loss") };
  const held = { name: "held-out loss", color: "#d1571b", points: pointsOf(evaluations, "eval_loss") };
  const last = steps.at(-1);
  const facts = [
    `${run.totalSteps} steps, ${last?.["tokens"]?.toLocaleString("en-US") ?? 0} tokens, ${last?.["tokens_per_second"]?.toFixed(1) ?? 0} tokens/s`,
    `${run.layout.parameterCount.toLocaleString("en-US")} trained parameters, GPU peak ${formatBytes(last?.["gpu_bytes"] ?? 0)}`,
    ...rollbacks.map(
      (r) =>
        `Loss spike in step ${r["spike_step"]}: ${r["spike_loss"]?.toFixed(4)} (limit ${r["spike_limit"]?.toFixed(4)}); back to step ${r["step"]}`,
    ),
  ];
  const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>qdora run</title>
<style>body{font:15px system-ui,sans-serif;max-width:800px;margin:2em auto;padding:0 1em}svg{width:100%;background:#8881}text{font-size:12px;fill:currentColor}</style>
<h1>qdora run</h1>${facts.map((f) => `<p>${escape(f)}</p>`).join("")}
${chart("Loss", evaluations.length > 0 ? [losses, held] : [losses])}
${chart("Gradient norm", [{ name: "gradient norm", color: "#5a8f29", points: pointsOf(steps, "grad_norm") }])}
${chart("Learning rate", [{ name: "learning rate", color: "#7d4fa8", points: pointsOf(steps, "learning_rate") }])}
<h2>GPU memory</h2><pre>${escape(planTable(run.plan))}</pre>
</html>
`;
  await writeFileAtomic(path, html);
}
