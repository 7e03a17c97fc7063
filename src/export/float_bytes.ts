/** f32 values as the bytes of a checkpoint's type. */
import { QdoraError } from "../formats/error.js";
import { f32ToBf16, f32ToF16 } from "../formats/floats.js";
import type { FloatDtype } from "../model/merged.js";

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** Values from here on round to infinity in f16. */
const F16_LIMIT = 65520;

/** @throws QdoraError naming the tensor for a value that f16 cannot hold */
export function checkF16(values: Float32Array, name: string, hint: string): void {
  const large = values.find((v) => Math.abs(v) >= F16_LIMIT);
  if (large !== undefined) throw new QdoraError(name, `holds ${large}, too large for f16`, hint);
}

/**
 * @param values finite
 * @param name of the tensor, for messages
 * @throws QdoraError for a value that f16 cannot hold
 */
export function floatBytes(values: Float32Array, dtype: FloatDtype, name: string): Uint8Array {
  switch (dtype) {
    case "F32":
      return bytesOf(values);
    case "BF16":
      return bytesOf(f32ToBf16(values));
    case "F16":
      checkF16(values, name, "use --dtype bf16 or f32");
      return bytesOf(f32ToF16(values));
    default:
      throw new Error(`unknown type ${String(dtype satisfies never)}`);
  }
}
