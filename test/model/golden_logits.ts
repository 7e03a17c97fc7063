/** The logits that transformers gives for the golden models: see test/fixtures/models/README.md. */
import { join } from "node:path";
import { expect } from "vitest";
import { floatTensors, integers } from "../fixture_files.js";

/** Stated in the fixture's README; logits reach 10. */
export const TOLERANCE = 1e-4;

/** The rows of a fixture without their padding, and logits [tokens of all rows, vocab] by name. */
export async function golden(folder: string) {
  const path = join(folder, "expected.safetensors");
  const ids = await integers(path, "input_ids");
  const mask = await integers(path, "attention_mask");
  const length = ids.shape[1] ?? 0;
  const rows = Array.from({ length: ids.shape[0] ?? 0 }, (_, r) =>
    ids.values.slice(r * length, (r + 1) * length).filter((__, i) => mask.values[r * length + i] === 1),
  );
  const tensors = await floatTensors(path);
  // Padded positions do not count: keep the others, in the order of the stream.
  const logits = (name: string): Float32Array => {
    const all = tensors.get(name) ?? new Float32Array();
    const vocab = all.length / ids.values.length;
    return Float32Array.from(
      mask.values.flatMap((kept, t) => (kept === 1 ? [...all.subarray(t * vocab, (t + 1) * vocab)] : [])),
    );
  };
  return { rows, logits };
}

/** Largest absolute difference. */
export function furthest(got: Float32Array, want: Float32Array): number {
  expect(got.length).toBe(want.length);
  return got.reduce((worst, v, i) => Math.max(worst, Math.abs(v - want[i]!)), 0);
}
