/** Sizes of calls as the bytes that shaders read: a place of 256 bytes for all calls that have the same ones. */
import type { WgslField } from "../gpu/wgsl.js";
import type { Call, Program } from "./kernel.js";
import { UNIFORM_STRIDE } from "./planner.js";

/**
 * @param places each call's place in the uniform buffer, as planned
 * @param fields each call's `struct Sizes`; empty for transfers
 * @returns the program's part of the uniform buffer, and the place at which it starts
 * @throws Error where calls that share a place have not the same sizes
 */
export function uniformBytes(
  program: Program,
  places: readonly number[],
  fields: readonly (readonly WgslField[])[],
): { readonly first: number; readonly bytes: ArrayBuffer } {
  const first = places[0] ?? 0;
  const count = places.reduce((most, place) => Math.max(most, place - first + 1), 0);
  const bytes = new DataView(new ArrayBuffer(count * UNIFORM_STRIDE));
  const word = new DataView(new ArrayBuffer(4));
  const written = new Set<number>();
  for (const [i, call] of program.calls.entries()) {
    const own = fields[i] ?? [];
    const place = places[i] ?? 0;
    const start = (place - first) * UNIFORM_STRIDE;
    for (const [f, field] of own.entries()) {
      writeField(word, field, call);
      const at = start + 4 * f;
      if (written.has(place) && bytes.getUint32(at) !== word.getUint32(0))
        throw new Error(`${call.label}: ${field.name} is not that of the calls it shares uniforms with`);
      bytes.setUint32(at, word.getUint32(0));
    }
    if (own.length > 0) written.add(place);
  }
  return { first, bytes: bytes.buffer };
}

function writeField(word: DataView, field: WgslField, call: Call): void {
  const value = call.sizes[field.name];
  if (value === undefined) throw new Error(`${call.kernel.name} (${call.label}) has no size ${field.name}`);
  if (field.type === "f32") word.setFloat32(0, value, true);
  else if (field.type === "i32") word.setInt32(0, value, true);
  else word.setUint32(0, value, true);
}
