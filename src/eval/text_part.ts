/** A held-out file as a part of an evaluation: rows and label masks as in training, and the bytes that their labels stand for. */
import { loadDataset } from "../data/dataset.js";
import { findDataFiles } from "../data/find_files.js";
import { IGNORED_LABEL, type EncodedRow } from "../data/row.js";
import { parseSources, sourceName } from "../data/sources.js";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.js";
import type { TextPart } from "./part.js";

export interface TextOptions {
  readonly model: string;
  readonly data: string;
  readonly vocabSize: number;
  readonly maxSeqLength: number;
  readonly trainOnPrompt: boolean;
  readonly limit: number;
}

/** UTF-8 bytes of a row's scored text. Its first token is never scored, so neither are its bytes. */
export function scoredBytes(row: Pick<EncodedRow, "inputIds" | "labels">, tokenizer: Tokenizer): number {
  // Both ends are decoded with all that comes before, as decoders change the beginning of a text. A character that is
  // not complete yet counts for the token that completes it.
  const bytesBefore = (end: number): number => {
    const ids = row.inputIds.subarray(0, end);
    const text = tokenizer.decode(ids, { skipSpecialTokens: true, cleanUp: false });
    return Buffer.byteLength(text.replace(/\uFFFD+$/, ""));
  };
  const isScored = (t: number): boolean =>
    t > 0 && row.labels[t] !== undefined && row.labels[t] !== IGNORED_LABEL;
  let bytes = 0;
  for (let t = 0; t < row.inputIds.length; t++) {
    if (!isScored(t) || isScored(t - 1)) continue;
    let end = t;
    while (isScored(end)) end += 1;
    bytes += bytesBefore(end) - bytesBefore(t);
  }
  return bytes;
}

/** The held-out rows of a folder that has some, all rows of a file. @throws QdoraError as loading training data does */
export async function textPart(options: TextOptions): Promise<TextPart> {
  const tokenizer = await loadTokenizer(options.model).catch((error: unknown) => ({ error }));
  const usable = "error" in tokenizer ? undefined : tokenizer;
  const dataset = await loadDataset({
    data: await heldOut(options.data),
    tokenizer: usable,
    tokenizerError: "error" in tokenizer ? tokenizer.error : undefined,
    vocabSize: options.vocabSize,
    maxSeqLength: options.maxSeqLength,
    trainOnPrompt: options.trainOnPrompt,
    seed: 0,
  });
  try {
    const rows: EncodedRow[] = [];
    for (const row of dataset.train) {
      if (rows.length >= options.limit) break;
      rows.push(row);
    }
    return {
      kind: "text",
      name: options.data,
      rows,
      bytes: usable && rows.map((row) => scoredBytes(row, usable)),
      truncated: rows.filter((row) => row.truncated).length,
      broken: dataset.broken.count,
    };
  } finally {
    dataset.close();
  }
}

/** Where a folder brings held-out rows, those are meant. */
async function heldOut(data: string): Promise<readonly string[]> {
  const named = parseSources(data).map(async (source) => {
    const name = sourceName(source);
    if (source.split !== undefined) return name;
    const { validation, splits } = await findDataFiles({ path: source.path, split: undefined });
    const [split] = [...splits].find(([, files]) => files === validation) ?? [];
    return split === undefined ? name : sourceName({ ...source, split });
  });
  return Promise.all(named);
}
