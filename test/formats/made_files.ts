/** Folders and safetensors files for tests, sound and broken ones. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { QdoraError } from "../../src/formats/error.js";

export const FIXTURES = new URL("../fixtures/", import.meta.url).pathname;

/** A folder that is gone after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "qdora-formats-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A safetensors file of any header text; `headerBytes` is what the first 8 bytes claim. */
export function rawSafetensors(
  header: string | object,
  dataBytes = 0,
  headerBytes?: number | bigint,
): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerBytes ?? json.length));
  return Buffer.concat([length, json, Buffer.alloc(dataBytes, 7)]);
}

/** Writes a file of a folder and returns its path. */
export function put(folder: string, name: string, data: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, data);
  return path;
}

export const f32 = (count: number, at = 0) => ({
  dtype: "F32",
  shape: [count],
  data_offsets: [at, at + 4 * count],
});

/** Expects a QdoraError whose message names `area` and fits `fact`. */
export async function expectRefusal(work: Promise<unknown>, area: string, fact: RegExp): Promise<QdoraError> {
  const error: unknown = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(QdoraError);
  expect((error as QdoraError).message).toContain(area);
  expect((error as QdoraError).message).toMatch(fact);
  return error as QdoraError;
}
