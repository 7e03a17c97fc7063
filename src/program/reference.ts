/**
 * The reference reader: runs a program with the kernels' f64 twins on the CPU, rounding at each store to the tensor's
 * dtype. Slow and plain; tests compare whole training steps with it where there is no GPU.
 */
import { packBlocks, unpackBlocks } from "../quant/block_float.js";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "../formats/floats.js";
import { size, type Call, type NumberArray, type Program } from "./kernel.js";
import { elementCount, type DType, type Tensor } from "./tensor.js";

/** Between f32 and the types whose elements are 16 bits each. */
const PACKED: Partial<
  Record<DType, { unpack(bits: Uint16Array): Float32Array; pack(values: Float32Array): Uint16Array }>
> = {
  bf16: { unpack: (bits) => bf16ToF32(bits), pack: f32ToBf16 },
  f16: { unpack: (bits) => f16ToF32(bits), pack: f32ToF16 },
  bfp16: { unpack: unpackBlocks, pack: packBlocks },
};

/** Host memory by tensor name. Arena members share one array, so that an optimizer call sees the whole arena. */
export class ReferenceMemory {
  readonly #arrays = new Map<string, NumberArray>();
  readonly #packed = new Map<string, Uint16Array>();

  /** The live array of a tensor: its elements in f32, u32, i32 or bytes. Packed types give a decoded copy. */
  array(t: Tensor): NumberArray {
    const packed = PACKED[t.dtype];
    if (packed) return packed.unpack(this.#bits(t));
    if (t.view) {
      const whole = this.array(t.view.base);
      const start = t.view.offsetBytes / whole.BYTES_PER_ELEMENT;
      return whole.subarray(start, start + elementCount(t));
    }
    if (t.arena) {
      const whole = this.#own(t.arena.name, t.arena.bytes / 4, "f32");
      const start = t.arena.offsetBytes / 4;
      return whole.subarray(start, start + elementCount(t));
    }
    return this.#own(t.name, elementCount(t), t.dtype);
  }

  /** Stores a twin's results: only packed dtypes need it, the others were written in place. */
  store(t: Tensor, values: NumberArray): void {
    const packed = PACKED[t.dtype];
    if (!packed) return;
    this.#bits(t).set(packed.pack(values instanceof Float32Array ? values : Float32Array.from(values)));
  }

  /** Sets a tensor, from `offsetBytes` on, from the bytes that the executor would upload (padding at the end is left out). */
  load(t: Tensor, bytes: Uint8Array, offsetBytes = 0): void {
    const copy = bytes.slice();
    const target = PACKED[t.dtype] ? this.#bits(t) : this.array(t);
    const make = {
      f32: Float32Array,
      u32: Uint32Array,
      i32: Int32Array,
      u8: Uint8Array,
      bf16: Uint16Array,
      f16: Uint16Array,
      bfp16: Uint16Array,
    }[t.dtype];
    const at = offsetBytes / make.BYTES_PER_ELEMENT;
    target.set(new make(copy.buffer).subarray(0, target.length - at), at);
  }

  /** The first bytes of a tensor, as the executor would read them back. */
  bytes(t: Tensor, count: number): Uint8Array {
    const elements = PACKED[t.dtype] ? this.#bits(t) : this.array(t);
    return new Uint8Array(elements.buffer, elements.byteOffset, count).slice();
  }

  #bits(t: Tensor): Uint16Array {
    if (t.view)
      return this.#bits(t.view.base)
        .subarray(t.view.offsetBytes / 2)
        .subarray(0, elementCount(t));
    let bits = this.#packed.get(t.name);
    if (!bits) this.#packed.set(t.name, (bits = new Uint16Array(elementCount(t))));
    return bits;
  }

  #own(name: string, count: number, dtype: DType): NumberArray {
    let array = this.#arrays.get(name);
    if (!array) {
      const make =
        dtype === "u32"
          ? Uint32Array
          : dtype === "i32"
            ? Int32Array
            : dtype === "u8"
              ? Uint8Array
              : Float32Array;
      array = new make(count);
      this.#arrays.set(name, array);
    }
    return array;
  }
}

/** Runs every call of a program with its twin. `host` is needed by programs that move tensors from or to the host. */
export function runReference(
  program: Program,
  memory: ReferenceMemory,
  options: { afterUpdate: boolean; host?: Map<string, Uint8Array> } = { afterUpdate: true },
): void {
  const host = options.host ?? new Map<string, Uint8Array>();
  for (const call of program.calls) {
    if (call.onlyAfterUpdate && !options.afterUpdate) continue;
    if (call.kernel.transfer) {
      transfer(call, memory, host);
      continue;
    }
    const arrays: Record<string, NumberArray> = {};
    for (const [binding, t] of Object.entries(call.tensors)) arrays[binding] = memory.array(t);
    call.kernel.twin(arrays, call);
    for (const [binding, t] of Object.entries(call.tensors)) {
      const array = arrays[binding];
      if (array && call.kernel.bindings[binding] !== "read") memory.store(t, array);
    }
  }
}

function transfer(call: Call, memory: ReferenceMemory, host: Map<string, Uint8Array>): void {
  const { t } = call.tensors;
  const { host: name = "" } = call;
  if (!t) throw new Error(`${call.label} moves no tensor`);
  if (call.kernel.transfer === "download") {
    host.set(name, memory.bytes(t, size(call, "bytes")));
    return;
  }
  const bytes = host.get(name);
  if (!bytes) throw new Error(`${call.label}: the host has no ${name}`);
  const offset = size(call, "offset");
  memory.load(t, bytes.subarray(offset, offset + size(call, "bytes")));
}
