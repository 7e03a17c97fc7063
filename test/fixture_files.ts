/** The golden data under test/fixtures: paths and tensors. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openCheckpointFile, readAsF32 } from "../src/formats/checkpoint.js";

export const FIXTURES = fileURLToPath(new URL("fixtures", import.meta.url));

export const readJson = (...path: readonly string[]): unknown =>
  JSON.parse(readFileSync(join(...path), "utf8"));

/** All float tensors of a safetensors file, in f32. */
export async function floatTensors(path: string): Promise<ReadonlyMap<string, Float32Array>> {
  const file = await openCheckpointFile(path);
  const tensors = new Map<string, Float32Array>();
  for (const entry of file.tensors.values()) {
    if (["F32", "F16", "BF16"].includes(entry.dtype)) tensors.set(entry.name, await readAsF32(file, entry));
  }
  await file.close();
  return tensors;
}

/** One integer tensor (I64 or I32) of a safetensors file. */
export async function integers(
  path: string,
  name: string,
): Promise<{ readonly shape: readonly number[]; readonly values: readonly number[] }> {
  const file = await openCheckpointFile(path);
  const entry = file.tensors.get(name);
  if (!entry) throw new Error(`${path} has no ${name}`);
  const bytes = await file.read(entry);
  await file.close();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isLong = entry.dtype === "I64";
  const values = Array.from({ length: bytes.byteLength / (isLong ? 8 : 4) }, (_, i) =>
    isLong ? Number(view.getBigInt64(8 * i, true)) : view.getInt32(4 * i, true),
  );
  return { shape: entry.shape, values };
}
