/** `qdora data FILE…`: what a data set holds and what training would make of it. Never loads the GPU. */
import { InvalidArgumentError, type Command } from "commander";
import { fromFlagText } from "../config/values.js";
import { openDataset, type Dataset } from "../data/dataset.js";
import { surveyData } from "../data/survey.js";
import { loadTokenizer } from "../data/tokenizer.js";
import { sourceName } from "../data/sources.js";
import { readArchitecture } from "../model/config.js";
import type { ColumnCounts } from "../data/column_counts.js";
import { brokenWords, columnWords, kindWords } from "../report/data_report.js";
import { histogramLines, lengthHistogram } from "../report/histogram.js";
import { printable, sampleText, segmentsOf } from "../report/sample_text.js";
import { runCommand } from "./run_command.js";
import { localModel } from "./stoppable.js";

interface DataFlags {
  readonly model?: string;
  readonly columns?: Readonly<Record<string, string>>;
  readonly maxSeqLength: number;
  readonly trainOnPrompt?: boolean;
  readonly samples: number;
  readonly json?: boolean;
}

const whole =
  (least: number) =>
  (text: string): number => {
    const value = fromFlagText(text, "number");
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`expected a whole number of at least ${least}`);
  };

function columnMap(text: string): Readonly<Record<string, string>> {
  const value = fromFlagText(text, "texts");
  if (typeof value === "object") return value as Readonly<Record<string, string>>;
  throw new InvalidArgumentError("expected FIELD=COLUMN,…");
}

/** One line of the report, and the same in JSON. */
interface Report {
  readonly lines: readonly string[];
  readonly json: Readonly<Record<string, unknown>>;
}

const n = (count: number): string => count.toLocaleString("en-US");

const namesOf = (columns: ColumnCounts): readonly string[] => columns.map(([name]) => name);

async function withModel(files: readonly string[], model: string, flags: DataFlags): Promise<Report> {
  const arch = await readArchitecture(model);
  const tokenizer = await loadTokenizer(model).catch((error: unknown) => ({ error }));
  const usable = "error" in tokenizer ? undefined : tokenizer;
  const dataset = await openDataset({
    data: files,
    columns: flags.columns,
    tokenizer: usable,
    tokenizerError: "error" in tokenizer ? tokenizer.error : undefined,
    vocabSize: arch.vocab,
    maxSeqLength: flags.maxSeqLength,
    trainOnPrompt: flags.trainOnPrompt === true,
    seed: 0,
  });
  try {
    const { counts, broken, train, validation } = dataset;
    const bins = lengthHistogram(lengthsOf(dataset));
    const samples = Array.from({ length: Math.min(flags.samples, train.length) }, (_, row) =>
      segmentsOf(train.row(row), usable),
    );
    const hasColor = process.stderr.isTTY && !process.env["NO_COLOR"];
    const columns = dataset.sources.map(({ train: part }) => part.tokens.summary.columns);
    const sources = dataset.sources.map(({ source, splits, train: part, validation: held }) => ({
      source: sourceName(source),
      splits,
      files: part.files.paths,
      validation_files: held?.files.paths ?? [],
      rows: part.tokens.rows,
      validation_rows: held?.tokens.rows ?? 0,
      columns: namesOf(part.tokens.summary.columns),
      column_rows: Object.fromEntries(part.tokens.summary.columns),
      kinds: part.tokens.summary.kinds,
      cached: part.isCached,
    }));
    return {
      json: {
        sources,
        rows: counts.rows,
        tokens: counts.tokens,
        scored_tokens: counts.scoredTokens,
        truncated: counts.truncated,
        unscored: counts.unscored,
        broken: broken.count,
        broken_rows: broken.named,
        lengths: { unit: "tokens", bins },
        samples,
      },
      lines: [
        ...sources.flatMap((source, i) => [
          source.source,
          `  rows: ${kindWords(source.kinds)}${source.validation_rows > 0 ? `; ${n(source.validation_rows)} held out (${source.validation_files.join(", ")})` : ""}`,
          `  columns: ${columnWords(columns[i] ?? [], source.kinds)}`,
          ...(source.splits.length > 0 ? [`  splits: ${source.splits.join(", ")}`] : []),
          ...(source.files.length > 1 ? [`  files: ${source.files.length}`] : []),
        ]),
        `total: ${n(counts.rows)} rows, ${n(counts.tokens)} tokens, ${n(counts.scoredTokens)} scored`,
        `  ${n(counts.truncated)} cut at ${n(flags.maxSeqLength)} tokens (max_seq_length)`,
        `  ${n(counts.unscored)} without a scored label (no answer, an empty one, or one that was cut off)`,
        `  ${broken.count === 0 ? "0 broken rows" : printable(brokenWords(broken))}`,
        `  ${n(train.length)} to train on, ${n(validation.length)} held out`,
        "",
        "tokens per row",
        ...histogramLines(bins).map((line) => `  ${line}`),
        ...samples.flatMap((segments, row) => [
          "",
          `row ${row + 1}: ${hasColor ? "green is scored" : "[[…]] is scored"}`,
          sampleText(segments, hasColor),
        ]),
      ],
    };
  } finally {
    dataset.close();
  }
}

function* lengthsOf({ train, validation }: Dataset): Generator<number> {
  for (const rows of [train, validation])
    for (let row = 0; row < rows.length; row++) yield rows.tokensOf(row);
}

async function withoutModel(files: readonly string[], flags: DataFlags): Promise<Report> {
  const survey = await surveyData(files, flags.columns ?? {}, flags.samples);
  const bins = lengthHistogram(survey.lengths);
  const sources = survey.sources.map(({ source, paths, splits, columns, kinds, rows, broken }) => ({
    source: sourceName(source),
    files: paths,
    splits,
    rows,
    columns: namesOf(columns),
    column_rows: Object.fromEntries(columns),
    kinds,
    broken: broken.count,
    broken_rows: broken.named,
  }));
  const samples = survey.samples.map(({ where: _, ...row }) => row);
  return {
    json: { sources, rows: survey.lengths.length, lengths: { unit: "characters", bins }, samples },
    lines: [
      ...survey.sources.flatMap(({ source, splits, columns, kinds, broken, paths }) => [
        sourceName(source),
        `  rows: ${kindWords(kinds)}`,
        `  columns: ${columnWords(columns, kinds)}`,
        ...(splits.length > 0 ? [`  splits: ${splits.join(", ")}`] : []),
        ...(paths.length > 1 ? [`  files: ${paths.length}`] : []),
        ...(broken.count > 0 ? [`  skipped: ${printable(brokenWords(broken))}`] : []),
      ]),
      "",
      "characters per row (of ready-made rows: ids)",
      ...histogramLines(bins).map((line) => `  ${line}`),
      ...samples.flatMap((row, i) => [
        "",
        `row ${i + 1}`,
        printable(JSON.stringify(row, undefined, 2).slice(0, 2000)),
      ]),
      "",
      "give --model FOLDER to see tokens, and what is scored",
    ],
  };
}

export function addData(program: Command): void {
  program
    .command("data")
    .description("say what a data set holds, and with --model what training would make of it")
    .argument("<file...>", "files, folders, each perhaps as PATH:SPLIT[FROM:TO]")
    .option("--model <model>", "model folder, or ORG/NAME of the Hub: its tokenizer and chat template")
    .option("--columns <field=column,…>", "which column stands for which field", columnMap)
    .option("--max-seq-length <n>", "longer rows are cut here", whole(2), 1024)
    .option("--train-on-prompt", "score prompts too")
    .option("--samples <n>", "rows to show", whole(0), 3)
    .option("--json", "one JSON object on stdout")
    .action((files: readonly string[], flags: DataFlags, command: Command) =>
      runCommand(command.optsWithGlobals()["debug"] === true, async () => {
        const local = flags.model === undefined ? undefined : await localModel(flags.model, "main");
        if (local && "exit" in local) return local.exit;
        const model = local?.value.path;
        const report =
          model === undefined ? await withoutModel(files, flags) : await withModel(files, model, flags);
        if (flags.json) process.stdout.write(`${JSON.stringify(report.json)}\n`);
        else process.stderr.write(`${report.lines.join("\n")}\n`);
        return 0;
      }),
    );
}
