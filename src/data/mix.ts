/** Which rows are held out, and how often a source's rows count in an epoch. Seeded, so that a resumed run draws the same. */
import { QdoraError } from "../formats/error.js";
import { RandomSource } from "../program/random.js";

const HELD_OUT_STREAM = 3;
/** Streams of the seed from here on belong to the sources; those of the epochs begin far above. */
const FIRST_WEIGHT_STREAM = 0x100;

interface Rows {
  readonly rows: number;
}

const rowsIn = (files: readonly Rows[]): number => files.reduce((sum, file) => sum + file.rows, 0);

/**
 * Takes rows out by a seeded draw.
 * @param valSize a fraction below 1, else a number of rows
 * @returns rows counted over all files, in rising order; undefined if none are wanted
 */
export function holdOut(
  files: readonly Rows[],
  valSize: number | undefined,
  seed: number,
): Uint32Array | undefined {
  if (valSize === undefined || valSize === 0) return undefined;
  const rows = rowsIn(files);
  const wanted = valSize < 1 ? Math.max(1, Math.round(valSize * rows)) : valSize;
  if (wanted >= rows) {
    throw new QdoraError(
      "val_size",
      `leaves no row to train on, got ${valSize} of ${rows} rows (limit ${rows - 1})`,
      "lower val_size",
      { exitCode: 2 },
    );
  }
  const random = new RandomSource(seed, HELD_OUT_STREAM);
  const held = new Set<number>();
  while (held.size < wanted) held.add(random.nextBelow(rows));
  return Uint32Array.from(held).sort();
}

/**
 * The training rows of an epoch, source by source in file order: each as often as its source's weight says; what is left
 * of the weight below 1 takes that part of the rows, drawn by the seed.
 * @param held rows that are not trained on, in rising order
 * @returns rows counted over all files; undefined if that is each row once
 */
export function repeatByWeight(
  files: readonly Rows[],
  held: Uint32Array | undefined,
  weights: readonly number[],
  seed: number,
): Uint32Array | undefined {
  if (!held && weights.every((weight) => weight === 1)) return undefined;
  const parts: Uint32Array[] = [];
  let [first, nextHeld] = [0, 0];
  for (const [i, file] of files.entries()) {
    const kept = new Uint32Array(file.rows);
    let count = 0;
    for (let row = first; row < first + file.rows; row++) {
      if (held && held[nextHeld] === row) nextHeld += 1;
      else kept[count++] = row;
    }
    first += file.rows;
    const rows = kept.subarray(0, count);
    const weight = weights[i] ?? 1;
    for (let copy = 1; copy <= weight; copy++) parts.push(rows);
    const rest = weight - Math.floor(weight);
    if (rest > 0) parts.push(draw(rows, rest, new RandomSource(seed, FIRST_WEIGHT_STREAM + i)));
  }
  const all = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A part of the rows, at least one, in their order: the first of a shuffle. */
function draw(rows: Uint32Array, part: number, random: RandomSource): Uint32Array {
  const wanted = Math.min(rows.length, Math.max(1, Math.round(part * rows.length)));
  const shuffled = rows.slice();
  for (let i = 0; i < wanted; i++) {
    const j = i + random.nextBelow(rows.length - i);
    const other = shuffled[i] ?? 0;
    shuffled[i] = shuffled[j] ?? 0;
    shuffled[j] = other;
  }
  return shuffled.slice(0, wanted).sort();
}
