/** Rows of a local Parquet file, a row group (or a part of a large one) at a time, with only the columns that are needed. */
import { spawn, type ChildProcess } from "node:child_process";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { QdoraError } from "../formats/error.js";
import { openFile } from "../formats/files.js";
import { FIELDS, type ColumnMap } from "./columns.js";
import { serveParquet, type ParquetReply, type ParquetRequest } from "./parquet_child.js";
import type { RawRow } from "./raw_row.js";

export interface ParquetLimits {
  /** For one answer: some ten thousand rows. */
  readonly timeoutMs: number;
  readonly heapMegabytes: number;
}

const DEFAULT_LIMITS: ParquetLimits = { timeoutMs: 60_000, heapMegabytes: 1024 };

/** The process that decodes; started by the first question, and again after it had to be killed. */
export class ParquetDecoder {
  readonly #limits: ParquetLimits;
  #child: ChildProcess | undefined;

  constructor(limits: ParquetLimits = DEFAULT_LIMITS) {
    this.#limits = limits;
  }

  /** One question at a time. @returns the answer; a fact where the file is at fault */
  ask(request: ParquetRequest): Promise<ParquetReply> {
    const child = (this.#child ??= startChild(this.#limits.heapMegabytes));
    return new Promise((resolve) => {
      const finish = (reply: ParquetReply): void => {
        clearTimeout(timer);
        child.removeAllListeners();
        resolve(reply);
      };
      const fail = (fact: string): void => {
        this.close();
        finish({ fact });
      };
      const { timeoutMs, heapMegabytes } = this.#limits;
      const timer = setTimeout(() => fail(`decoding took longer than ${timeoutMs} ms`), timeoutMs);
      child.on("message", finish);
      child.on("error", (error) => fail(`the decoder could not start: ${error.message}`));
      child.on("exit", () => fail(`decoding needed more than ${heapMegabytes} MB of memory`));
      child.send(request, (error) => {
        if (error) fail(`the decoder could not be reached: ${error.message}`);
      });
    });
  }

  close(): void {
    this.#child?.kill("SIGKILL");
    this.#child = undefined;
  }
}

function startChild(heapMegabytes: number): ChildProcess {
  const { resolve } = createRequire(import.meta.url);
  const url = (name: string): string => JSON.stringify(pathToFileURL(resolve(name)).href);
  const program = `
    import * as hyparquet from ${url("hyparquet")};
    import { parquetHeader } from ${url("hyparquet/src/column.js")};
    import { compressors } from ${url("hyparquet-compressors")};
    import * as fs from "node:fs/promises";
    (${serveParquet.toString()})({ hyparquet, parquetHeader, compressors, fs });`;
  return spawn(
    process.execPath,
    [`--max-old-space-size=${heapMegabytes}`, "--input-type=module", "-e", program],
    { stdio: ["ignore", "ignore", "ignore", "ipc"], serialization: "advanced", env: {} },
  );
}

/** Which columns are read: those of a row's fields by the names that the map gives them, or all. */
export type WantedColumns = ColumnMap | "all";

/** @throws QdoraError for a file that is damaged, or whose columns are none of a row's */
export async function* readParquet(path: string, columns: WantedColumns): AsyncGenerator<RawRow, void, void> {
  const decoder = new ParquetDecoder();
  try {
    yield* decodeRows(decoder, path, columns);
  } finally {
    decoder.close();
  }
}

/** As readParquet, with a decoder that may serve several files, one after the other. */
export async function* decodeRows(
  decoder: ParquetDecoder,
  path: string,
  columns: WantedColumns,
): AsyncGenerator<RawRow, void, void> {
  // Refuses what is no regular file.
  await (await openFile(path)).handle.close();
  const opened = await ask(decoder, path, { open: path });
  const wanted = wantedColumns("columns" in opened ? opened.columns : [], path, columns);
  let number = 0;
  let coming = ask(decoder, path, { read: wanted });
  for (;;) {
    const reply = await coming;
    const rows = "rows" in reply ? reply.rows : [];
    if (rows.length === 0) return;
    // The next rows are decoded while these are used.
    coming = ask(decoder, path, { next: true });
    coming.catch(() => undefined);
    for (const value of rows) {
      number += 1;
      yield { at: `: row ${number}`, value };
    }
  }
}

async function ask(decoder: ParquetDecoder, path: string, request: ParquetRequest): Promise<ParquetReply> {
  const reply = await decoder.ask(request);
  if (!("fact" in reply)) return reply;
  throw new QdoraError(
    path,
    `cannot be read as Parquet (${reply.fact})`,
    "the file is damaged or has row groups that are too large; make or download it again",
  );
}

function wantedColumns(all: readonly string[], path: string, columns: WantedColumns): readonly string[] {
  if (columns === "all") return all;
  const asked = Object.values(columns);
  const missing = asked.find((name) => !all.includes(name));
  const listed = all.slice(0, 8).map((name) => JSON.stringify(name.slice(0, 40)));
  if (missing !== undefined)
    throw new QdoraError(
      path,
      `has no column ${JSON.stringify(missing)}; its columns are ${listed.join(", ")}`,
      "mend `columns`",
    );
  const wanted = asked.length > 0 ? asked : all.filter((name) => FIELDS.some((field) => field === name));
  if (wanted.length > 0) return [...new Set(wanted)];
  throw new QdoraError(
    path,
    `none of its columns is a field of a row: ${listed.join(", ")}`,
    "say which column is which with `columns`, for instance --columns prompt=question,completion=answer",
  );
}
