/**
 * Rows as compact bytes. A record is the row's token ids (2 bytes each where the vocabulary allows it, else 4), then the
 * spans of scored labels as pairs of 32-bit indices [from, to), or, where labels are not the ids (ready-made rows), a
 * 32-bit label for each token. All little-endian.
 */
import { IGNORED_LABEL, type EncodedRow } from "./row.js";

/** Records of some rows, and what is known of each row without reading its record. */
export interface TokenChunk {
  /** Records, end to end. */
  readonly records: Uint8Array;
  /** [rows] bytes of each record */
  readonly recordBytes: Uint32Array;
  /** [rows] tokens */
  readonly lengths: Uint32Array;
  /** [rows] labels that count */
  readonly scored: Uint32Array;
  /** [rows] bits, see below */
  readonly flags: Uint8Array;
}

export const TRUNCATED = 1;
const OWN_LABELS = 2;

/** Bytes of a token id. */
export const tokenBytes = (vocabSize: number): 2 | 4 => (vocabSize <= 0x10000 ? 2 : 4);

export class TokenRecords {
  readonly #width: 2 | 4;
  #bytes = new Uint8Array(1 << 16);
  #view = new DataView(this.#bytes.buffer);
  #used = 0;
  readonly #recordBytes: number[] = [];
  readonly #lengths: number[] = [];
  readonly #scored: number[] = [];
  readonly #flags: number[] = [];

  constructor(vocabSize: number) {
    this.#width = tokenBytes(vocabSize);
  }

  add(row: EncodedRow): void {
    const { inputIds, labels, truncated, scored } = row;
    const spans = scoredSpans(row);
    const bytes = inputIds.length * this.#width + (spans ? spans.length : labels.length) * 4;
    this.#reserve(bytes);
    let at = this.#used;
    for (const id of inputIds) {
      if (this.#width === 2) this.#view.setUint16(at, id, true);
      else this.#view.setUint32(at, id, true);
      at += this.#width;
    }
    for (const value of spans ?? labels) {
      this.#view.setInt32(at, value, true);
      at += 4;
    }
    this.#used = at;
    this.#recordBytes.push(bytes);
    this.#lengths.push(inputIds.length);
    this.#scored.push(scored);
    this.#flags.push((truncated ? TRUNCATED : 0) | (spans ? 0 : OWN_LABELS));
  }

  /** Everything that was added, as memory of its own. */
  chunk(): TokenChunk {
    return {
      records: this.#bytes.slice(0, this.#used),
      recordBytes: Uint32Array.from(this.#recordBytes),
      lengths: Uint32Array.from(this.#lengths),
      scored: Uint32Array.from(this.#scored),
      flags: Uint8Array.from(this.#flags),
    };
  }

  #reserve(bytes: number): void {
    if (this.#used + bytes <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * (this.#used + bytes));
    grown.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

/** Pairs [from, to) where labels are the ids; undefined if a label that counts is another one. */
function scoredSpans({ inputIds, labels }: EncodedRow): readonly number[] | undefined {
  const spans: number[] = [];
  let start = -1;
  for (let t = 0; t < labels.length; t++) {
    const label = labels[t];
    const counts = label !== IGNORED_LABEL;
    if (counts && label !== inputIds[t]) return undefined;
    if (counts && start < 0) start = t;
    if (!counts && start >= 0) {
      spans.push(start, t);
      start = -1;
    }
  }
  if (start >= 0) spans.push(start, labels.length);
  return spans;
}

/** The row of a record. */
export function readRecord(
  record: Uint8Array,
  width: 2 | 4,
  row: { readonly length: number; readonly scored: number; readonly flags: number },
): EncodedRow {
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const { length, scored, flags } = row;
  const inputIds = new Int32Array(length);
  for (let t = 0; t < length; t++)
    inputIds[t] = width === 2 ? view.getUint16(2 * t, true) : view.getUint32(4 * t, true);
  const labels = new Int32Array(length).fill(IGNORED_LABEL);
  const rest = length * width;
  if ((flags & OWN_LABELS) !== 0) {
    for (let t = 0; t < length; t++) labels[t] = view.getInt32(rest + 4 * t, true);
  } else {
    for (let at = rest; at + 8 <= record.length; at += 8) {
      const [from, to] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      labels.set(inputIds.subarray(from, to), from);
    }
  }
  return { inputIds, labels, truncated: (flags & TRUNCATED) !== 0, scored };
}
