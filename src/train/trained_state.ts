/** What training changes on the GPU, to the host and back: the adapter's factors and the optimizer's moments, whatever optimizer the programs have. */
import type { FactorValues } from "../adapter/initial.js";
import type { AdapterLayout } from "../adapter/layout.js";
import { openCheckpointFile } from "../formats/checkpoint.js";
import { QdoraError } from "../formats/error.js";
import { writeSafetensors, type Dtype, type TensorToWrite } from "../formats/safetensors.js";
import type { Executor } from "../program/executor.js";
import type { Program } from "../program/kernel.js";
import { elementCount, tensorBytes, type DType } from "../program/tensor.js";
import { callClass, type VariantTable } from "../program/tuner.js";
import { momentTensors } from "./optimizer.js";
import type { RunHost } from "./run_host.js";

export type StateMemory = Pick<Executor, "read" | "write">;

/** Trained state where it lies: on the GPU, and that of streamed layers on the host. */
export const stateMemory = (executor: Executor, host: RunHost): StateMemory => ({
  async read(t, bytes = tensorBytes(t)) {
    const state = host.stateOf(t);
    return state ? state.slice(0, bytes).buffer : await executor.read(t, bytes);
  },
  async write(t, data, offsetBytes = 0) {
    const state = host.stateOf(t);
    if (!state) return executor.write(t, data, offsetBytes);
    state.set(data, offsetBytes);
  },
});

const bytesOf = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

const STORED: Readonly<Record<DType, { readonly dtype: Dtype; readonly bytes: number }>> = {
  f32: { dtype: "F32", bytes: 4 },
  u32: { dtype: "U32", bytes: 4 },
  i32: { dtype: "I32", bytes: 4 },
  bf16: { dtype: "BF16", bytes: 2 },
  f16: { dtype: "F16", bytes: 2 },
  bfp16: { dtype: "U16", bytes: 2 },
  u8: { dtype: "U8", bytes: 1 },
};

/** Name in the file: it says in which order the arena's parts lie, so that no other version's moments are taken for these. */
const storedName = (name: string): string => `${name}.a_b_magnitude`;

/** Writes all moments into one safetensors file, bit for bit. */
export async function saveMoments(memory: StateMemory, layout: AdapterLayout, path: string): Promise<void> {
  const entries = new Map<string, TensorToWrite>();
  for (const [name, t] of momentTensors(layout)) {
    const { dtype, bytes } = STORED[t.dtype];
    const data = new Uint8Array(await memory.read(t)).subarray(0, elementCount(t) * bytes);
    entries.set(storedName(name), { dtype, shape: t.shape, data });
  }
  await writeSafetensors(path, entries, { format: "pt" });
}

/** Puts the moments of a file back. @throws QdoraError if they are not those of this layout */
export async function restoreMoments(
  memory: StateMemory,
  layout: AdapterLayout,
  path: string,
): Promise<void> {
  const file = await openCheckpointFile(path);
  try {
    const wanted = momentTensors(layout);
    const stored = new Set([...wanted.keys()].map(storedName));
    for (const [name, t] of wanted) {
      const entry = file.tensors.get(storedName(name));
      const { dtype } = STORED[t.dtype];
      const has = entry ? `${entry.dtype} [${entry.shape.join(", ")}]` : "nothing";
      const wants = `${dtype} [${t.shape.join(", ")}]`;
      if (!entry || has !== wants)
        throw new QdoraError(
          path,
          `${name}: has ${has}, this run needs ${wants}`,
          "it is from another version of qdora or another optimizer",
        );
      const bytes = new Uint8Array(tensorBytes(t));
      bytes.set(await file.read(entry));
      await memory.write(t, bytes);
    }
    const extra = [...file.tensors.keys()].find((name) => !stored.has(name));
    if (extra !== undefined)
      throw new QdoraError(
        path,
        `also holds ${extra}, which this run does not have`,
        "it is from another version of qdora or another optimizer",
      );
  } finally {
    await file.close();
  }
}

/** Writes factors into their places on the GPU. */
export async function writeFactors(
  memory: StateMemory,
  layout: AdapterLayout,
  values: ReadonlyMap<string, FactorValues>,
): Promise<void> {
  for (const module of layout.modules.values()) {
    const given = values.get(module.path);
    if (!given) throw new Error(`no values for ${module.path}`);
    const { a, b, magnitude } = module.parameters;
    await memory.write(a, bytesOf(given.a));
    await memory.write(b, bytesOf(given.b));
    if (magnitude && given.magnitude) await memory.write(magnitude, bytesOf(given.magnitude));
  }
}

/** The variants that really run, by class of call: with them a resumed run computes the same bits. */
export function chosenVariants(executor: Executor, programs: readonly Program[]): VariantTable {
  const table = new Map<string, string>();
  for (const program of programs) {
    const names = executor.variants(program.name);
    for (const [i, call] of program.calls.entries())
      if (!call.kernel.transfer) table.set(callClass(call), names[i] ?? "");
  }
  return table;
}
