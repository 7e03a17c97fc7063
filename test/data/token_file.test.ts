import { appendFileSync, mkdtempSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { NO_KINDS } from "../../src/data/encode_chunk.js";
import type { EncodedRow } from "../../src/data/row.js";
import { TokenFile } from "../../src/data/token_file.js";
import { TokenRecords, tokenBytes } from "../../src/data/token_records.js";
import { packedUnits, TokenRows } from "../../src/data/token_rows.js";
import { TokenWriter } from "../../src/data/token_writer.js";
import { RandomSource } from "../../src/program/random.js";

/** Rows with every kind of mask, and some with labels of their own. */
function randomRows(count: number, vocab: number): EncodedRow[] {
  const random = new RandomSource(7, 1);
  return Array.from({ length: count }, (_, i) => {
    const inputIds = Int32Array.from({ length: 1 + random.nextBelow(40) }, () => random.nextBelow(vocab));
    const labels = inputIds.map((id) => (random.nextBelow(3) === 0 ? -100 : id));
    if (i % 7 === 0) labels[0] = (labels[0] ?? 0) === 5 ? 6 : 5;
    return {
      inputIds,
      labels,
      truncated: i % 3 === 0,
      scored: labels.subarray(1).filter((label) => label !== -100).length,
    };
  });
}

/** Writes chunks of rows; a chunk that comes again is packed once. @returns the path */
async function write(chunks: readonly (readonly EncodedRow[])[], vocab: number): Promise<string> {
  const path = join(mkdtempSync(join(tmpdir(), "qdora-tokens-")), "rows.tokens");
  const writer = await TokenWriter.create(path, tokenBytes(vocab));
  let packed: { readonly rows: readonly EncodedRow[]; readonly records: TokenRecords } | undefined;
  for (const rows of chunks) {
    if (packed?.rows !== rows) {
      packed = { rows, records: new TokenRecords(vocab) };
      for (const row of rows) packed.records.add(row);
    }
    const { records } = packed;
    const broken = [{ file: 0, at: ":3", fact: "is broken", hint: "mend it" }];
    await writer.add({
      ...records.chunk(),
      kinds: { ...NO_KINDS, text: rows.length },
      columns: [["text", rows.length]],
      broken,
    });
  }
  await writer.finish();
  return path;
}

function opened(path: string): TokenFile {
  const file = TokenFile.open(path);
  if (!file) throw new Error("damaged");
  return file;
}

describe("TokenFile", () => {
  it.each([300, 0x10000, 0x10001, 200_000])("gives back what was written, vocabulary %i", async (vocab) => {
    const rows = randomRows(200, vocab);
    const file = opened(await write([rows.slice(0, 80), rows.slice(80)], vocab));
    expect(file.rows).toBe(200);
    expect(rows.map((_, row) => file.row(row))).toEqual(rows);
    expect([...file.lengths]).toEqual(rows.map((row) => row.inputIds.length));
    expect(file.summary).toEqual({
      kinds: { ...NO_KINDS, text: 200 },
      columns: [["text", 200]],
      brokenCount: 2,
      broken: Array.from({ length: 2 }, () => ({ file: 0, at: ":3", fact: "is broken", hint: "mend it" })),
    });
    expect(() => file.row(200)).toThrow("row 200 of 200");
  });

  it("takes 2 bytes for a token and 8 for a span of labels", async () => {
    const row: EncodedRow = {
      inputIds: Int32Array.from({ length: 1000 }, (_, i) => i),
      labels: Int32Array.from({ length: 1000 }, (_, i) => (i < 500 ? -100 : i)),
      truncated: false,
      scored: 500,
    };
    const records = new TokenRecords(1000);
    records.add(row);
    expect(records.chunk().records).toHaveLength(2008);
  });

  it("reads rows from the file where they are many", async () => {
    const ids = new Int32Array(1 << 20).fill(3);
    const labels = ids.slice();
    const row: EncodedRow = { inputIds: ids, labels, truncated: false, scored: ids.length - 1 };
    const chunk = [row];
    const path = await write(
      Array.from({ length: 17 }, () => chunk),
      300,
    );
    const file = opened(path);
    expect(Buffer.compare(Buffer.from(file.row(16).labels.buffer), Buffer.from(ids.buffer))).toBe(0);
    file.close();
    expect(() => file.row(0)).toThrow("is closed");
  });

  it("knows a damaged file: every byte counts", async () => {
    const path = await write([randomRows(3, 300)], 300);
    const sound = readFileSync(path);
    for (let at = 0; at < sound.length; at += 5) {
      const bad = Buffer.from(sound);
      bad[at] = (bad[at] ?? 0) ^ 0x10;
      writeFileSync(path, bad);
      expect(TokenFile.open(path), `byte ${at}`).toBeUndefined();
    }
    for (const size of [0, 1, 63, 64, sound.length - 1]) {
      writeFileSync(path, sound);
      truncateSync(path, size);
      expect(TokenFile.open(path), `${size} bytes`).toBeUndefined();
    }
    writeFileSync(path, sound);
    appendFileSync(path, "x");
    expect(TokenFile.open(path)).toBeUndefined();
    writeFileSync(path, sound);
    expect(TokenFile.open(path)?.rows).toBe(3);
  });
});

describe("TokenRows", () => {
  it("is rows of several files, all or some of them", async () => {
    const rows = randomRows(30, 300);
    const files = [
      opened(await write([rows.slice(0, 11)], 300)),
      opened(await write([[]], 300)),
      opened(await write([rows.slice(11)], 300)),
    ];
    expect([...new TokenRows(files)]).toEqual(rows);
    const some = new TokenRows(files, Uint32Array.of(29, 0, 11, 10, 11));
    expect([...some]).toEqual([29, 0, 11, 10, 11].map((row) => rows[row]));
    expect([some.tokensOf(2), some.scoredOf(2), some.isTruncated(1)]).toEqual([
      rows[11]?.inputIds.length,
      rows[11]?.scored,
      true,
    ]);
    expect(() => some.row(5)).toThrow("row 5 of 5");
    expect(packedUnits([[0, 2], [1]]).rowsOf(0)).toEqual([0, 2]);
  });
});
