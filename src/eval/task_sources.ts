/** Where a task's items come from: a file or folder on this disk, or the task's data set on the Hub. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { findDataFiles } from "../data/find_files.js";
import { isHubName } from "../data/hub_source.js";
import { EXTENSIONS, readFileRows } from "../data/read_file.js";
import { valueOf } from "../data/raw_row.js";
import { parseSources } from "../data/sources.js";
import { QdoraError } from "../formats/error.js";
import { pullDataset } from "../hub/pull.js";
import type { PullOptions } from "../hub/pull_options.js";
import { CHOICE_TASKS } from "./choice_tasks.js";
import type { TaskRow } from "./fields.js";
import { PROBLEM_TASKS } from "./word_problems.js";

export const TASKS = [...CHOICE_TASKS, ...PROBLEM_TASKS] as const;
export type TaskName = (typeof TASKS)[number];

export interface TaskSource {
  readonly task: TaskName;
  /** A file, a folder or ORG/NAME, perhaps with `:SPLIT` and `[FROM:TO]`; undefined: the task's own data set. */
  readonly path: string | undefined;
}

/** A data set on the Hub, in the copy that the Hub makes of every data set in Parquet: CONFIG/SPLIT/0000.parquet. */
interface HubSet {
  readonly id: string;
  readonly config: string;
  /** The split that is evaluated; test answers are secret in some. */
  readonly split: string;
}

const PARQUET_REVISION = "refs/convert/parquet";

export const HUB_SETS: Readonly<Record<TaskName, HubSet>> = {
  boolq: { id: "google/boolq", config: "default", split: "validation" },
  piqa: { id: "ybisk/piqa", config: "plain_text", split: "validation" },
  siqa: { id: "allenai/social_i_qa", config: "default", split: "validation" },
  hellaswag: { id: "Rowan/hellaswag", config: "default", split: "validation" },
  winogrande: { id: "allenai/winogrande", config: "winogrande_xl", split: "validation" },
  arc_easy: { id: "allenai/ai2_arc", config: "ARC-Easy", split: "test" },
  arc_challenge: { id: "allenai/ai2_arc", config: "ARC-Challenge", split: "test" },
  openbookqa: { id: "allenai/openbookqa", config: "main", split: "test" },
  gsm8k: { id: "openai/gsm8k", config: "main", split: "test" },
  orca_math: { id: "microsoft/orca-math-word-problems-200k", config: "default", split: "train" },
};

export type Pulling = Pick<PullOptions, "signal" | "listen">;

/** `FOLDER/TASK.jsonl` or the like, or the folder `FOLDER/TASK`. @throws QdoraError if there is none */
export async function taskInFolder(folder: string, task: TaskName): Promise<string> {
  for (const ending of [...EXTENSIONS, ""]) {
    const path = join(folder, task + ending);
    if (await stat(path).catch(() => undefined)) return path;
  }
  throw new QdoraError(
    "task_data",
    `${folder} has no ${task}.jsonl`,
    `put ${task}.jsonl (or ${EXTENSIONS.slice(1).join(", ")}) there, or leave ${task} out of --tasks`,
  );
}

interface Files {
  readonly paths: readonly string[];
  readonly from: number;
  readonly to: number;
}

interface Located {
  readonly folder: string;
  readonly split: string | undefined;
  readonly from: number;
  readonly to: number;
}

/** The file or folder of a task's items; a data set of the Hub is pulled if it is not in the cache. */
async function locate({ task, path }: TaskSource, pulling: Pulling): Promise<Located> {
  if (path === undefined) {
    const { id, config, split } = HUB_SETS[task];
    const include = [`${config}/${split}/*.parquet`];
    const pulled = await pullDataset(id, { ...pulling, revision: PARQUET_REVISION, include });
    return { folder: join(pulled.path, config), split, from: 0, to: Infinity };
  }
  const [source] = parseSources([path]);
  if (!source) throw new QdoraError("tasks", `${task} names no file`, `write ${task}=FILE`, { exitCode: 2 });
  const { split, from, to } = source;
  if (!isHubName(source.path)) return { folder: source.path, split, from, to };
  return { folder: (await pullDataset(source.path, pulling)).path, split, from, to };
}

async function filesOf(source: TaskSource, pulling: Pulling): Promise<Files> {
  const { folder, split, from, to } = await locate(source, pulling);
  const isFolder = (await stat(folder).catch(() => undefined))?.isDirectory() === true;
  const wanted = split ?? (isFolder ? HUB_SETS[source.task].split : undefined);
  const { train } = await findDataFiles({ path: folder, split: wanted });
  return { paths: train, from, to };
}

/** Pulls what the tasks need from the Hub; readers find it in the cache. */
export async function pullTaskData(sources: readonly TaskSource[], pulling: Pulling): Promise<void> {
  for (const source of sources) await locate(source, pulling);
}

/**
 * The items of a task, in their order.
 * @param limit at most so many
 * @throws QdoraError for a file that is not there, for a broken row, and if there are no items
 */
export async function readTaskRows(
  source: TaskSource,
  limit: number,
  pulling: Pulling = {},
): Promise<readonly TaskRow[]> {
  const { paths, from, to } = await filesOf(source, pulling);
  const end = Math.min(to, from + limit);
  const rows: TaskRow[] = [];
  let index = 0;
  for (const path of paths) {
    if (index >= end) break;
    for await (const raw of readFileRows(path, "all")) {
      if (index >= end) break;
      if (index++ < from) continue;
      const where = path + raw.at;
      const read = valueOf(raw);
      if ("fault" in read) throw new QdoraError(where, read.fault.fact, read.fault.hint);
      rows.push({ where, value: read.value });
    }
  }
  if (rows.length > 0) return rows;
  throw new QdoraError(
    source.task,
    `${source.path ?? HUB_SETS[source.task].id} has no items`,
    "give a file with items",
  );
}
