/** Broken copies of good bytes and good JSON for the fuzz tests: the same ones for the same seed. */
import type { RandomSource } from "../src/program/random.js";

const pick = <T>(list: readonly T[], random: RandomSource): T | undefined =>
  list[random.nextBelow(Math.max(1, list.length))];

/** Changes a few bytes: flips, drops, doubles, puts pieces in, cuts. */
export function mutateBytes(bytes: Buffer, random: RandomSource, pieces: readonly Buffer[]): Buffer {
  let out = bytes;
  for (let change = random.nextBelow(3); change >= 0; change--) {
    const at = random.nextBelow(out.length + 1);
    const to = Math.min(out.length, at + random.nextBelow(8));
    const [head, middle, tail] = [out.subarray(0, at), out.subarray(at, to), out.subarray(to)];
    const put = (...parts: Buffer[]): Buffer => Buffer.concat(parts);
    switch (random.nextBelow(6)) {
      case 0:
        out = put(head, middle.map((byte) => byte ^ (1 << random.nextBelow(8))) as Buffer, tail);
        break;
      case 1:
        out = put(head, tail);
        break;
      case 2:
        out = put(head, middle, middle, tail);
        break;
      case 3:
        out = put(head, Buffer.from([random.nextBelow(256)]), middle, tail);
        break;
      case 4:
        out = random.nextBelow(8) === 0 ? head : put(tail, head);
        break;
      default:
        out = put(head, pick(pieces, random) ?? Buffer.alloc(0), middle, tail);
    }
  }
  return out;
}

/** Changes one to three bytes: the file keeps its size and its magic, so that what lies deeper is reached. */
export function damage(bytes: Buffer, random: RandomSource): Buffer {
  const out = Buffer.from(bytes);
  for (let change = random.nextBelow(3); change >= 0; change--) {
    const at = 4 + random.nextBelow(out.length - 12);
    out[at] = random.nextBelow(2) === 0 ? random.nextBelow(256) : (out[at] ?? 0) ^ (1 << random.nextBelow(8));
  }
  return out;
}

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** What stands where something else is expected; numbers at the edges of what a size may be. */
const HOSTILE: readonly Json[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  2,
  3,
  0.5,
  1e-320,
  -1e308,
  1e308,
  2 ** 24,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  2 ** 60,
  "",
  "0",
  "16",
  "\u0000",
  "../../etc/passwd",
  "__proto__",
  "constructor",
  "(a+)+$",
  "[",
  "x".repeat(5000),
  "👍\ud800",
  [],
  [[]],
  [0],
  [-1, 1e308],
  [null, "a"],
  {},
  { a: {} },
  { toString: 1, valueOf: 1 },
  { toJSON: "x", length: 1e9 },
];

/** Writes `__proto__` too, which an object literal would swallow. */
const objectOf = (entries: readonly (readonly [string, Json])[]): Json => Object.fromEntries(entries);

/** Changes one to three places: another value, a number near it, a key dropped, misspelt or added, a list shortened or doubled. */
export function mutateJson(value: Json, random: RandomSource, keys: readonly string[] = []): Json {
  let out = value;
  for (let change = random.nextBelow(3); change >= 0; change--) out = mutateOnce(out, random, keys);
  return out;
}

function mutateOnce(value: Json, random: RandomSource, keys: readonly string[]): Json {
  const isDeeper = random.nextBelow(4) > 0;
  if (Array.isArray(value)) {
    const list = value as readonly Json[];
    const at = random.nextBelow(list.length + 1);
    if (isDeeper && at < list.length)
      return list.map((item, i) => (i === at ? mutateOnce(item, random, keys) : item));
    if (random.nextBelow(2) === 0) return list.filter((_, i) => i !== at);
    return [...list.slice(0, at), pick(HOSTILE, random) ?? null, ...list.slice(at)];
  }
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    const at = random.nextBelow(Math.max(1, entries.length));
    const [name, item] = entries[at] ?? ["a", null];
    if (isDeeper)
      return objectOf(entries.map((e, i) => (i === at ? [name, mutateOnce(item, random, keys)] : e)));
    switch (random.nextBelow(4)) {
      case 0:
        return objectOf(entries.filter((_, i) => i !== at));
      case 1: {
        const letter = random.nextBelow(name.length + 1);
        const misspelt = `${name.slice(0, letter)}${name.slice(letter + 1)}`;
        return objectOf(entries.map((e, i) => (i === at ? [misspelt, item] : e)));
      }
      case 2:
        return objectOf([...entries, [pick(keys, random) ?? "__proto__", pick(HOSTILE, random) ?? null]]);
      default:
        return objectOf([...entries, [pick(keys, random) ?? `${name}2`, item]]);
    }
  }
  if (typeof value === "number" && random.nextBelow(2) === 0)
    return value + (pick([-1, 1, 8, -0.5], random) ?? 1);
  return pick(HOSTILE, random) ?? null;
}
