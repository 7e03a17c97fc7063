/** What is in a data set before it becomes tokens: shapes, columns, lengths in characters. Needs no model. */
import { checkBroken, type BrokenRows } from "./broken_rows.js";
import { checkColumns, type ColumnMap } from "./columns.js";
import { NO_KINDS, shapeOf, type KindCounts } from "./encode_chunk.js";
import { findDataFiles } from "./find_files.js";
import { ColumnCounter, type ColumnCounts } from "./column_counts.js";
import type { BrokenRow } from "./raw_row.js";
import { readFileRows } from "./read_file.js";
import type { DataRow } from "./row.js";
import { noRows, parseSources, type DataSource } from "./sources.js";

export interface SurveyedSource {
  readonly source: DataSource;
  readonly paths: readonly string[];
  readonly splits: readonly string[];
  readonly columns: ColumnCounts;
  readonly kinds: KindCounts;
  readonly rows: number;
  readonly broken: BrokenRows;
}

export interface Survey {
  readonly sources: readonly SurveyedSource[];
  /** [rows] characters of all texts of a row (token ids of ready-made rows) */
  readonly lengths: Uint32Array;
  readonly samples: readonly DataRow[];
}

const KEPT_BROKEN = 50;

/** @param samples rows to keep as they are @throws QdoraError for too many broken rows, or no rows */
export async function surveyData(
  data: string | readonly string[],
  columns: ColumnMap,
  samples: number,
): Promise<Survey> {
  checkColumns(columns);
  const lengths: number[] = [];
  const kept: DataRow[] = [];
  const sources: SurveyedSource[] = [];
  for (const source of parseSources(data)) {
    const files = await findDataFiles(source);
    const kinds = { ...NO_KINDS };
    const broken: BrokenRow[] = [];
    let [row, rows, brokenCount] = [0, 0, 0];
    const names = new ColumnCounter();
    for (const [file, path] of files.train.entries()) {
      for await (const raw of readFileRows(path, columns)) {
        if (row >= source.to) break;
        row += 1;
        if (row <= source.from) continue;
        const found = shapeOf(raw, path + raw.at, columns, (value) => names.addRow(value));
        if ("fault" in found) {
          brokenCount += 1;
          if (broken.length < KEPT_BROKEN) broken.push({ file, at: raw.at, ...found.fault });
          continue;
        }
        rows += 1;
        kinds[found.kind] += 1;
        lengths.push(lengthOf(found));
        if (kept.length < samples) kept.push(found);
      }
      if (row >= source.to) break;
    }
    const summary = checkBroken(files.train, broken, brokenCount, rows + brokenCount);
    if (rows === 0) throw noRows(source.path, source.from, source.to);
    sources.push({
      source,
      paths: files.train,
      splits: [...files.splits.keys()].toSorted(),
      columns: names.counts,
      kinds,
      rows,
      broken: summary,
    });
  }
  return { sources, lengths: Uint32Array.from(lengths), samples: kept };
}

/** Characters, or ids. */
function lengthOf(row: DataRow): number {
  switch (row.kind) {
    case "text":
      return row.text.length;
    case "completion":
      return row.prompt.length + row.completion.length;
    case "chat":
      return row.messages.reduce((sum, message) => sum + (message.content?.length ?? 0), 0);
    case "instruction":
      return row.system.length + row.instruction.length + row.input.length + row.output.length;
    case "ids":
      return row.inputIds.length;
    default:
      return row satisfies never;
  }
}
