/** What every fuzz test asks of every mutant: it is taken, or refused by an error that people can use. */
import { expect } from "vitest";
import { QdoraError } from "../src/formats/error.js";

/** A message with a whole file in it would be no help. */
const MAX_MESSAGE = 1200;

/**
 * @param place what the message has to name: the file, or what the test says that may stand for it
 * @returns what came of it, or the error
 */
export async function takenOrRefused<T>(
  work: () => T | Promise<T>,
  place: string | RegExp,
): Promise<{ readonly value: T } | { readonly error: QdoraError }> {
  try {
    return { value: await work() };
  } catch (error) {
    if (!(error instanceof QdoraError)) throw error;
    if (typeof place === "string") expect(error.message).toContain(place);
    else expect(error.message).toMatch(place);
    expect(error.message.length + (error.hint ?? "").length).toBeLessThan(MAX_MESSAGE + String(place).length);
    return { error };
  }
}

/** Counts of one test. */
export class Tally {
  taken = 0;
  refused = 0;
  count(outcome: { readonly value: unknown } | { readonly error: unknown }): void {
    if ("value" in outcome) this.taken += 1;
    else this.refused += 1;
  }
  /** Both kinds must be there, or the test tests little; and every mutant must have come to its end. */
  expectAll(mutants: number, least: { readonly taken: number; readonly refused: number }): void {
    expect(this.taken + this.refused).toBe(mutants);
    expect(this.taken).toBeGreaterThanOrEqual(least.taken);
    expect(this.refused).toBeGreaterThanOrEqual(least.refused);
  }
}

/** Megabytes that a fuzz test may add to the process: sizes that a file claims must not become memory. */
const MEMORY_MB = 512;

/** @returns a check that the process has not grown out of bounds since */
export function memoryWatch(): () => void {
  const before = process.resourceUsage().maxRSS;
  return () => expect((process.resourceUsage().maxRSS - before) / 1024).toBeLessThan(MEMORY_MB);
}
