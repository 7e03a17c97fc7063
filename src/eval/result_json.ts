/** Results as the objects that `--json` prints. Names are lm-evaluation-harness's where it has them: acc, acc_norm, acc_stderr. */
import type { Loss, Metric, PartResult, TaskResult, TextResult } from "./results.js";
import type { Mean } from "./statistics.js";

type Json = Readonly<Record<string, unknown>>;

const error = (name: string, { standardError }: Pick<Mean, "standardError">): Json =>
  standardError === undefined ? {} : { [`${name}_stderr`]: standardError };

function pairedJson({ paired }: Metric): Json | undefined {
  return (
    paired && {
      difference: paired.difference,
      ...error("difference", paired),
      only_adapter: paired.onlyAdapter,
      only_base: paired.onlyBase,
      p_value: paired.pValue,
    }
  );
}

function taskJson(result: TaskResult): Json {
  const metrics = Object.entries(result.metrics);
  const own = (pick: (metric: Metric) => Mean | undefined): Json =>
    Object.assign(
      {},
      ...metrics.map(([name, metric]) => {
        const one = pick(metric);
        return one ? { [name]: one.value, ...error(name, one) } : {};
      }),
    ) as Json;
  const isPaired = metrics.some(([, metric]) => metric.paired);
  return {
    items: result.items,
    truncated: result.truncated,
    ...own((metric) => metric),
    ...(isPaired && {
      base: own((metric) => metric.base),
      paired: Object.fromEntries(metrics.map(([name, metric]) => [name, pairedJson(metric)])),
    }),
  };
}

/** Nats per token or byte, and what is usual beside it: perplexity, bits per byte. */
const lossJson = (loss: Mean, byte: Mean | undefined): Json => ({
  nll: loss.value,
  ...error("nll", loss),
  perplexity: Math.exp(loss.value),
  ...(byte && {
    nll_per_byte: byte.value,
    ...error("nll_per_byte", byte),
    bits_per_byte: byte.value / Math.LN2,
  }),
});

const lossPaired = ({ paired }: Loss): Json | undefined =>
  paired && { difference: paired.difference, ...error("difference", paired), interval_95: paired.interval };

function textJson(result: TextResult): Json {
  const { perToken, perByte } = result;
  return {
    data: result.name,
    rows: result.rows,
    truncated: result.truncated,
    broken: result.broken,
    tokens: result.tokens,
    ...(result.bytes !== undefined && { bytes: result.bytes }),
    ...lossJson(perToken, perByte),
    ...(perToken.base && {
      base: lossJson(perToken.base, perByte?.base),
      paired: { nll: lossPaired(perToken), ...(perByte && { nll_per_byte: lossPaired(perByte) }) },
    }),
  };
}

/** `{"text": {…}, "tasks": {"arc_easy": {…}}}`, each only where it was asked for. */
export function resultsJson(results: readonly PartResult[]): Json {
  const text = results.find((result) => result.kind === "text");
  const tasks = results.filter((result) => result.kind === "task");
  return {
    ...(text && { text: textJson(text) }),
    ...(tasks.length > 0 && { tasks: Object.fromEntries(tasks.map((task) => [task.name, taskJson(task)])) }),
  };
}
